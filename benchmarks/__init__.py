"""What it costs: tagwerk's paths, measured beside a floor in the same run. Never part of the tests."""
