"""Files of the projects that `nri-inject new` writes; $name, $module and $index are filled in."""
