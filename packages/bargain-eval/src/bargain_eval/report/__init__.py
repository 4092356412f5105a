"""The report: stored runs and cross-play matrices as one HTML page that needs nothing but a browser."""
