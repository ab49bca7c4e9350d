"""What lies with the firmware: EFI variables, boot options, the EFI system partition, what is remembered from boot to
boot, and what Path B reports.

Knows entries, kernels and what is below them; not how a machine is handed over.
"""
