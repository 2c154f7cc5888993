"""Devices, mounts and limits by annotation: the injector behind `nri-device-injector`.

`injector` finds the annotations and has the table of their kinds, `devices`, `mounts` and `linux`
read one group of kinds each, `wish` is what they share. Plugins import `inject`.
"""

from nri_inject.injectors.device.injector import KINDS as KINDS
from nri_inject.injectors.device.injector import AnnotationKind as AnnotationKind
from nri_inject.injectors.device.injector import inject as inject
