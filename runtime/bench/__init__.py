"""`tagwerk bench`: the project's own paths, measured beside a floor of bare libraries in the same run."""
