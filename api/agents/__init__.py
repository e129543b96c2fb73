"""What agents ask through: the Model Context Protocol, over the calls that everybody else has."""
