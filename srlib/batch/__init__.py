"""Running the notebooks: what to run (`plan`), whether it must be (`manifest`), and running it (`run`)."""
