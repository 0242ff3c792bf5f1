"""Settings: the schema, YAML and KEY=VALUE words merged strictly into it."""
