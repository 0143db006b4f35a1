"""What a person looks at: heat maps on a fixed scale, and one HTML page that works offline.

Knows no detector, no torch: it receives plain data (`ReportContent`).
"""
