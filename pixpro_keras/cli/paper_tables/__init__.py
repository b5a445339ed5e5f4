"""The paper's tables as data, and code that runs their jobs and reports the results."""
