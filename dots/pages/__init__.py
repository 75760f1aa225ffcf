"""Pages that need nothing beside them: jinja2 templates with autoescaping, one look, tables and line charts as SVG."""
