"""What lies with the firmware: EFI variables, boot options, the EFI system partition, what is remembered from boot to
boot, and what Path B reports.

Knows entries, kernels and what is below them; neither how a machine is handed over nor what a survey is.
"""
