"""`omlx doctor`: each check is a function of what was looked at; a module for each kind of thing."""
