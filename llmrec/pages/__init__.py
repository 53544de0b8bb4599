"""Pages that open from the disk: one file each, with its charts, styles and script inside."""
