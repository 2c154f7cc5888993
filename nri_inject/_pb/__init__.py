"""Generated protobuf modules; `nri_inject.api` gives their messages public names."""
