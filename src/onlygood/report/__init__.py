"""What a person looks at: heat maps on a fixed scale, and one HTML page that works offline.

It receives plain data (`ReportContent`) and knows no detector, no torch; but for `filling`, which
fills that from a detector.
"""
