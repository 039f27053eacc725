"""Online: everything that speaks to Kafka, and the command line."""
