"""The paper's experiments: which runs make a table, and the table with the published figures beside ours."""
