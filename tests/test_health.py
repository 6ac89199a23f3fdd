"""Silent and saturated layers are told of: by hand, and in a run's output, log and page."""

from commands import train

from dalif_jax.analysis import health
from dalif_jax.runs.runlog import read_metrics


def layers(**rates):
    return {name: {"firing_rate": rate} for name, rate in rates.items()}


def test_what_fires_below_a_thousandth_is_silent_and_above_nine_tenths_saturated():
    found = health.ill(layers(a=0.0, b=0.0009, c=0.001, d=0.5, e=0.9, f=0.91))
    assert found == {"silent": ["a", "b"], "saturated": ["f"]}
    assert health.ill(layers(a=0.3)) == {}


def test_spikes_of_several_levels_are_judged_by_the_largest_and_real_numbers_not_at_all():
    assert health.ill(layers(a=2.6), levels=3) == {}
    assert health.ill(layers(a=2.8), levels=3) == {"saturated": ["a"]}
    assert health.ill(layers(a=0.0, b=7.0), levels=0) == {}


def test_a_layer_is_told_of_when_it_falls_ill_and_again_when_others_join_it():
    watch = health.Watch()
    found, (line,) = watch(layers(a=0.0, b=0.2))
    assert found == {"silent": ["a"]} and line.startswith("silent: a fired below 0.1% of the time")
    assert "lower threshold" in line and "surrogate_width" in line
    assert watch(layers(a=0.0, b=0.2)) == ({"silent": ["a"]}, [])
    _, (line,) = watch(layers(a=0.0, b=0.0))
    assert line.startswith("silent: a, b fired")
    assert watch(layers(a=0.3, b=0.3)) == ({}, [])
    _, lines = watch(layers(a=0.0, b=0.99))
    assert [line.split(":")[0] for line in lines] == ["silent", "saturated"]


def test_a_run_says_so_once_and_its_log_and_page_keep_it(tmp_path):
    code, out = train(tmp_path, "--config.threshold=1000.0", "--config.epochs=2")
    assert code == 0, out
    assert out.count("warning: silent: stem0_neuron, ") == 1, out
    records = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "eval"]
    assert [r["silent"][0] for r in records] == ["stem0_neuron"] * 2
    assert 'class="ill">silent: stem0_neuron, ' in (tmp_path / "report.html").read_text()
