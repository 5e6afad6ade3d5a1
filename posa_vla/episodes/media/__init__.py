"""Images, stills and videos."""
