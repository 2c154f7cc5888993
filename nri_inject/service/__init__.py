"""A plugin as a running program: options, configuration, log, and the node's files as they change.

`injector` makes the handlers of an injector's plugin, `config_file` follows the configuration,
`environment` follows policy and sources, `command` turns a service into a program. Plugins,
`node` and the command line import this room. A new service implements `base.Service`.
"""
