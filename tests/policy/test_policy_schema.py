"""The schema that editors use, and the reader that plugins use, agree on what a policy is."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
import yaml

from nri_inject import api
from nri_inject.errors import ConfigError
from nri_inject.injectors.giving import read_gifts
from nri_inject.policy import document
from nri_inject.policy.gifts import KINDS, PROFILES
from nri_inject.policy.kinds import READERS
from nri_inject.text.names import LIMITS

SCHEMA = json.loads(files("nri_inject.policy").joinpath("schema.json").read_text("utf-8"))

SOUND = [
    "{}",
    "rules: []",
    "{mode: warn, on_deny: skip, rules: []}",
    "rules: [{name: a, allow: {devices: [/dev/fuse]}}]",
    "rules: [{deny: {devices: [{path: '/dev/*', type: b}]}}]",
    "rules: [{allow: {devices: [{type: c, major: 10, minor: 229}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, access: rwm, major: 1}]}}]",
    "rules: [{allow: {devices: [class:video, 'usb:1a86:7523', {device: /dev/video0}]}}]",
    "rules: [{deny: {devices: [{device: 'class:block', type: b, access: w}]}}]",
    "rules: [{allow: {cdi_devices: ['vendor.com/gpu=*', {name: v.com/c=a}]}}]",
    "rules: [{allow: {mounts: [/srv, {source: /a, access: rw, destination: '/b/*'}]}}]",
    "rules: [{allow: {mounts: [{type: tmpfs, options: ['size=*']}]}}]",
    "rules: [{allow: {network_devices: [eth0], sysctl: [net.core.*], memory_policy: [MPOL_BIND]}}]",
    "rules: [{allow: {scheduling_policy: [SCHED_BATCH, {policy: SCHED_RR, max_priority: 5}]}}]",
    "rules: [{allow: {io_priority: [{class: IOPRIO_CLASS_BE, priority: 4}]}}]",
    "rules: [{allow: {ulimits: [memlock, RLIMIT_NOFILE, {type: Core, hard: unlimited}]}}]",
    "rules: [{allow: {hooks: [a.json], fields: [OomScoreAdj], removals: [/data, net.*]}}]",
    (
        "rules: [{who: {namespaces: [a], runtime_handlers: [kata*], containers: [m]},"
        " allow: {hooks: [a]}}]"
    ),
    "rules: [{who: {plugins: ['10-*'], pods: {}}, allow: {hooks: [a]}}]",
    "rules: [{who: {pods: {matchLabels: {app: web}}}, allow: {hooks: [a]}}]",
    (
        "rules: [{who: {pods: {matchExpressions: [{key: a, operator: In, values: [b]},"
        " {key: c, operator: Exists}]}}, allow: {hooks: [a]}}]"
    ),
    "rules: [{who: {images: [nginx], pod_names: ['a*'], namespaces: [b]}, give: {hooks: [a]}}]",
    "rules: [{who: {pods: {}, any_namespace: true}, give: {hooks: [a]}}]",
    "rules: [{allow: {hooks: [a]}, give: {devices: [/dev/fuse, 'usb:1a86:7523']}}]",
    "rules: [{give: {devices: [{device: class:tty-usb, as: '/dev/{name}', count: all}]}}]",
    "rules: [{give: {devices: [{path: /dev/x, type: c, major: 1, minor: 3}]}, required: true}]",
    "rules: [{give: {cdi_devices: [v.com/d=0], hooks: [a.json]}}]",
    "rules: [{give: {mounts: [{source: /a, destination: /b, type: bind, options: [ro]}]}}]",
    "rules: [{give: {ulimits: [{type: memlock, hard: 1, soft: 1}], env: {A: b, C: 1}}}]",
    "rules: [{give: {sysctl: {net.core.somaxconn: 1024}, network_devices: [{hostIf: eth1}]}}]",
    "rules: [{give: {scheduling_policy: {policy: SCHED_IDLE}, memory_policy: {mode: MPOL_LOCAL}}}]",
    "rules: [{give: {io_priority: {class: IOPRIO_CLASS_IDLE}}}]",
    "{profiles: {a: {devices: [/dev/fuse]}, b: {profiles: [a]}}, rules: [{give: {profiles: [b]}}]}",
    "{profiles: {}, rules: [{allow: {profiles: [a, {name: 'b*'}]}}]}",
]
WRONG = [
    "[]",
    "mode: x",
    "mode:",
    "rule: []",
    "rules: {}",
    "rules: [1]",
    "rules: [{}]",
    "rules: [{allow: {hooks: [a]}, deny: {hooks: [a]}}]",
    "rules: [{allow: }]",
    "rules: [{allow: {}}]",
    "rules: [{allow: {hook: [a]}}]",
    "rules: [{allow: {hooks: a}}]",
    "rules: [{allow: {hooks: []}}]",
    "rules: [{allow: {hooks: ['']}}]",
    "rules: [{allow: {hooks: [null]}}]",
    "rules: [{who: , allow: {hooks: [a]}}]",
    "rules: [{who: {namespaces: }, allow: {hooks: [a]}}]",
    "rules: [{who: {namespaces: []}, allow: {hooks: [a]}}]",
    "rules: [{who: {pods: {matchLabels: }}, allow: {hooks: [a]}}]",
    "rules: [{who: {pods: {matchExpressions: [{key: a, operator: In}]}}, allow: {hooks: [a]}}]",
    "rules: [{who: {pods: {matchExpressions: [{key: a, operator: Has}]}}, allow: {hooks: [a]}}]",
    (
        "rules: [{who: {pods: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}},"
        " allow: {hooks: [a]}}]"
    ),
    "rules: [{allow: {devices: [dev/x]}}]",
    "rules: [{allow: {devices: [/dev//x]}}]",
    "rules: [{allow: {devices: [/dev/./x]}}]",
    "rules: [{allow: {devices: [/dev/..]}}]",
    "rules: [{allow: {devices: [{}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, device: class:video}]}}]",
    "rules: [{allow: {devices: [{type: c}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, minor: 1}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, type: p}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, access: rx}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, access: ''}]}}]",
    "rules: [{allow: {devices: [{path: /dev/x, access: }]}}]",
    "rules: [{allow: {mounts: [{access: rw}]}}]",
    "rules: [{allow: {mounts: [{source: /a, access: w}]}}]",
    "rules: [{allow: {mounts: [{source: /a, destination: b}]}}]",
    "rules: [{allow: {mounts: [{type: tmpfs, options: ['size=1m,mode=755']}]}}]",
    "rules: [{allow: {sysctl: [net/core/x]}}]",
    "rules: [{allow: {sysctl: [{name: net/core/x}]}}]",
    "rules: [{allow: {ulimits: [files]}}]",
    "rules: [{allow: {ulimits: [{type: core, hard: -1}]}}]",
    "rules: [{allow: {scheduling_policy: [BATCH]}}]",
    "rules: [{allow: {io_priority: [{class: IOPRIO_CLASS_BE, priority: 8}]}}]",
    "profiles: []",
    "profiles: {A: {devices: [/dev/fuse]}}",
    "profiles: {a: {}}",
    "profiles: {a: {device: [/dev/fuse]}}",
    "profiles: {a: {profiles: []}}",
    "rules: [{give: }]",
    "rules: [{give: {}}]",
    "rules: [{give: {device: [/dev/fuse]}}]",
    "rules: [{give: {devices: /dev/fuse}}]",
    "rules: [{give: {devices: []}}]",
    "rules: [{give: {devices: [{major: 1}]}}]",
    "rules: [{give: {cdi_devices: [gpu]}}]",
    "rules: [{give: {mounts: [{source: /a}]}}]",
    "rules: [{give: {ulimits: [{type: memlock}]}}]",
    "rules: [{give: {hooks: [/etc/a.json]}}]",
    "rules: [{give: {env: {A=B: c}}}]",
    "rules: [{give: {env: {}}}]",
    "rules: [{give: {hooks: [a]}, required: 1}]",
    "rules: [{allow: {hooks: [a]}, required: true}]",
    "rules: [{deny: {hooks: [a]}, give: {hooks: [a]}}]",
    "rules: [{who: {pods: {}}, give: {hooks: [a]}}]",
    "rules: [{who: {images: [a]}, give: {hooks: [a]}}]",
    "rules: [{who: {containers: [a], any_namespace: false}, give: {hooks: [a]}}]",
    "rules: [{who: {namespaces: [a], any_namespace: true}, give: {hooks: [a]}}]",
]


@pytest.mark.parametrize("text", SOUND)
def test_both_take_what_is_sound(text: str) -> None:
    document.read(text, "policy", read_gifts)
    jsonschema.validate(yaml.safe_load(text), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize("text", WRONG)
def test_both_refuse_what_is_wrong(text: str) -> None:
    with pytest.raises(ConfigError):
        document.read(text, "policy", read_gifts)
    assert not jsonschema.Draft7Validator(SCHEMA).is_valid(yaml.safe_load(text))


@pytest.mark.slow
def test_the_schema_is_one_and_has_every_kind_and_name() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    what = SCHEMA["definitions"]["what"]["properties"]
    assert set(what) == set(READERS)
    assert set(SCHEMA["definitions"]["give"]["properties"]) == {*KINDS, PROFILES}

    def names(kind: str) -> set[str]:
        return set(what[kind]["items"]["anyOf"][0]["enum"])

    assert names("scheduling_policy") == set(api.LinuxSchedulerPolicy.keys())
    assert names("io_priority") == set(api.IOPrioClass.keys())
    assert names("memory_policy") == set(api.MpolMode.keys())
    for limit in LIMITS:
        document.read(f"rules: [{{allow: {{ulimits: [{limit}]}}}}]", "policy")
        jsonschema.validate(
            {"rules": [{"allow": {"ulimits": [f"rlimit_{limit.lower()}"]}}]}, SCHEMA
        )
