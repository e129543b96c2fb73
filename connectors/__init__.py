"""Reading the changes of a lakehouse table as one change contract."""
