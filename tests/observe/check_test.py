"""check.py finds what it is there to find."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check

EXPOSITION = """\
# HELP tidegate_calls Calls.
# TYPE tidegate_calls counter
tidegate_calls_total{route="a {b}",outcome="complete"} 3
# TYPE tidegate_wait_seconds histogram
# UNIT tidegate_wait_seconds seconds
tidegate_wait_seconds_sum{route="a"} 0.5
tidegate_wait_seconds_count{route="a"} 1
tidegate_wait_seconds_bucket{route="a",le="0.1"} 1 # {trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331"} 0.05 1.0
# TYPE tidegate_up gauge
tidegate_up 1
# EOF
"""
FAMILIES = check.exposition(EXPOSITION)
KINDS = {name: kind for name, (kind, _) in FAMILIES.items()}
WORDS = 'Complete => "complete", Refused => "refused"'


def faults(expr: str, shown: str = "") -> list:
    there = check.known(FAMILIES, KINDS)
    return check.faults_of_queries([("here", expr, set(shown.split()))], there, WORDS)


class Queries(unittest.TestCase):
    def test_reads_promql(self) -> None:
        metrics, grouped = check.asked(
            'histogram_quantile(0.9, sum by (le, route) (rate(a_bucket{x=~"b|c", y!="}"}[5m] offset 1h))) > 3 * on (job) group_left (z) d unless e'
        )
        self.assertEqual(metrics, [("a_bucket", [("x", "=~", "b|c"), ("y", "!=", "}")]), ("d", []), ("e", [])])
        self.assertEqual(grouped, {"le", "route", "job", "z"})

    def test_reads_an_exposition(self) -> None:
        self.assertEqual(FAMILIES["tidegate_calls"], ("counter", {"route", "outcome"}))
        self.assertEqual(FAMILIES["tidegate_wait_seconds"], ("histogram", {"route"}))
        self.assertEqual(FAMILIES["tidegate_up"], ("gauge", set()))
        for text in ("", "<html></html>", "stray 1\n"):
            with self.assertRaises(check.Cannot):
                check.exposition(text)

    def test_what_fits(self) -> None:
        for expr, shown in [
            ('sum by (route) (rate(tidegate_calls_total{outcome="complete", job=~"$job"}[1m]))', "route"),
            ("histogram_quantile(0.9, sum by (le) (rate(tidegate_wait_seconds_bucket[1m])))", ""),
            ("tidegate_up and on (instance) up", "instance"),
        ]:
            self.assertEqual(faults(expr, shown), [], expr)

    def test_what_does_not(self) -> None:
        for expr, shown, word in [
            ("rate(tidegate_calls[1m])", "", "no metric tidegate_calls"),
            ("tidegate_wait_seconds", "", "no metric tidegate_wait_seconds"),
            ('tidegate_calls_total{model="m"}', "", "no label model"),
            ("sum by (model) (tidegate_calls_total)", "", "has the label model"),
            ("sum by (le) (tidegate_calls_total)", "", "has the label le"),
            ('tidegate_calls_total{outcome=~"complete|lost"}', "", 'never "lost"'),
            ("tidegate_up", "route", "has the label route"),
            ("sum by (route) (tidegate_calls_total)", "outcome", "summed away"),
            ("1 + 1", "", "names no metric"),
        ]:
            found = faults(expr, shown)
            self.assertTrue(any(word in one for one in found), (expr, found))


class Coverage(unittest.TestCase):
    def test_a_metric_that_nobody_shows(self) -> None:
        shown = [("here", "tidegate_calls_total + tidegate_wait_seconds_sum", set())]
        found = [one for one in check.faults_of_coverage(shown, FAMILIES, KINDS) if one.startswith("tidegate_up ")]
        self.assertEqual(len(found), 1, found)

    def test_a_name_that_is_gone(self) -> None:
        found = check.faults_of_coverage([], FAMILIES, {})
        self.assertTrue(any("tidegate_calls is in the exposition" in one for one in found))
        self.assertTrue(any("tidegate_lane_running stands in SOMETIMES" in one for one in found))

    def test_the_files_are_read(self) -> None:
        queries = check.of_dashboard() + check.of_alerts()
        self.assertGreater(sum(where.startswith("panel") for where, _, _ in queries), 100)
        self.assertGreater(sum(where.startswith("rule") for where, _, _ in queries), 40)
        self.assertGreater(len(check.named_in_source()), 100)


if __name__ == "__main__":
    unittest.main()
