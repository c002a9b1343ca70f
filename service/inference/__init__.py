"""One request of ours on a served model, without HTTP: what is asked, its limits, its texts as they come."""
