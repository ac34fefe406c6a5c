"""measlog: measured-boot event logs, quotes, reference manifests and their appraisal."""
