package suite

import (
	"testing"
)

// row returns the target with that text.
func row(t *testing.T, all []Target, what string) Target {
	t.Helper()
	for _, one := range all {
		if one.What == what {
			return one
		}
	}
	t.Fatalf("there is no target %q", what)
	return Target{}
}

func TestTargetsCompareWithTargetAndFloor(t *testing.T) {
	const what = "64 clients: appends / etcd puts" // 0.92 before, 2.5 wanted
	for _, c := range []struct {
		appends float64
		want    string
	}{{250, reachedTarget}, {249, reachedFloor}, {171, reachedFloor}, {170, reachedNo}, {0, notMeasured}} {
		all := targets([]Result{
			{Name: "append-64", Rate: Spread{Median: c.appends}}, {Name: "etcd-put-64", Rate: Spread{Median: 100}},
			{Name: "batch-64", Rate: Spread{Median: 1}}, // so that there is a table
		})
		got := row(t, all, what)
		if got.Reached != c.want || got.Floor != 1.71 || got.AtMost || got.Value != c.appends/100 {
			t.Errorf("%v appends: %+v, wanted %q", c.appends, got, c.want)
		}
	}
}

func TestTargetsOfLatencyAndProcessorTimeAreUpperBounds(t *testing.T) {
	spread := func(median float64) *Spread { return &Spread{Median: median} }
	for _, c := range []struct {
		cpu  float64 // microseconds
		want string
	}{{90, reachedTarget}, {91, reachedFloor}, {210, reachedFloor}, {211, reachedNo}} {
		all := targets([]Result{{Name: "append-64", CPU: spread(c.cpu)}})
		got := row(t, all, "CPU per single append, all processes")
		if got.Reached != c.want || !got.AtMost {
			t.Errorf("%v us: %+v, wanted %q", c.cpu, got, c.want)
		}
	}
	all := targets([]Result{
		{Name: "append-1-leader", P50: spread(1.2), P99: spread(9)},
		{Name: "etcd-put-1-leader", P50: spread(2), P99: spread(8)},
	})
	if got := row(t, all, "1 client at the leader: p50 / etcd's"); got.Reached != reachedTarget || got.Value != 0.6 {
		t.Errorf("%+v", got)
	}
	// Without a value of before, the floor is the target.
	if got := row(t, all, "1 client at the leader: p99 / etcd's"); got.Reached != reachedNo || got.Floor != 1 {
		t.Errorf("%+v", got)
	}
	if got := row(t, all, "leader killed: longest gap, p99"); got.Reached != "see make times" {
		t.Errorf("%+v", got)
	}
}

func TestTargetOfMemoryIsTheHeaviestScenarioOfTheCluster(t *testing.T) {
	all := targets([]Result{
		{Name: "append-64", System: systemChainStore, PeakRSS: 600e6},
		{Name: "batch-64", System: systemChainStore, PeakRSS: 1_100e6},
		{Name: "etcd-put-64", System: systemEtcd, PeakRSS: 5_000e6},
	})
	if got := row(t, all, "memory of all processes, heaviest load"); got.Value != 1.1 || got.Reached != reachedFloor {
		t.Errorf("%+v", got)
	}
}

// Every row with scenarios names some that exist, and a report without any of them has no table.
func TestTargetsAreMeasured(t *testing.T) {
	one := &Spread{Median: 1}
	var results []Result
	for _, s := range scenarios {
		r := s.result()
		r.Rate, r.P50, r.P99, r.CPU, r.PeakRSS = *one, one, one, one, 1
		results = append(results, r)
	}
	for i, got := range targets(results) {
		if measured := targetRows[i].of != "" || targetRows[i].measure != nil; measured != (got.Value != 0) {
			t.Errorf("%+v", got)
		}
	}
	if got := targets([]Result{{Name: "check-1"}}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
