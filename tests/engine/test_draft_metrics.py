"""What drafts bring is seen at /metrics, by model and drafter."""

from __future__ import annotations

from omlx.server.engine.messages import DraftStats, EngineStats
from omlx.server.metrics import Metrics


def test_each_drafter_has_its_counts_and_its_speed_up():
    stats = EngineStats(drafts=[DraftStats("mtp", 10, 10, 8, 1.5), DraftStats("ngram", 0, 0, 0, 0.0)])
    shown = Metrics(lambda: {"v4": stats}).render().decode()
    assert 'omlx:spec_decode_num_drafts_total{drafter="mtp",model_name="v4"} 10.0' in shown
    assert 'omlx:spec_decode_num_draft_tokens_total{drafter="mtp",model_name="v4"} 10.0' in shown
    assert 'omlx:spec_decode_num_accepted_tokens_total{drafter="mtp",model_name="v4"} 8.0' in shown
    assert 'omlx:spec_decode_speedup{drafter="mtp",model_name="v4"} 1.5' in shown
    assert 'omlx:spec_decode_speedup{drafter="ngram"' not in shown
