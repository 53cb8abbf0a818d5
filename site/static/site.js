// Extracts of the pages found are fetched, which a browser refuses for a site that was opened from a disk.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
// The theme's icons are drawn once: whoever replaces those of the widgets breaks the play button.
window.FontAwesomeConfig = { observeMutations: false };
