package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

// example returns a report with every part filled.
func example() *Report {
	r := &Report{
		Time: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), Machine: "linux/amd64, 2 processors, go1.26", Runs: 3,
		Duration: 5, Warmup: 2,
		Results: []Result{
			{
				Name: "gin-64", Title: "bare gin: body of 256 B, 201", System: systemGin, Clients: 64, Batch: 1,
				Rate: newSpread([]float64{39_000, 38_000.4, 40_000}), P50: ptr(newSpread([]float64{1.5, 1.6, 1.4})),
				P99: ptr(newSpread([]float64{4, 5, 6})), Completed: 585_000,
				Cores: map[string]float64{"load": 0.9, "gin": 1.1},
			},
			{
				Name: "raft-64", Title: "bare raft: entries of 100 x 256 B", System: systemRaft, Clients: 64,
				Batch: 100,
				Rate:  newSpread([]float64{320_000}), Cores: map[string]float64{"raft": 1.8},
			},
			{
				Name: "append-64", Title: "append of 256 B", System: systemChainStore, Clients: 64, Batch: 1,
				Rate: newSpread([]float64{15_000, 16_000}), P50: ptr(newSpread([]float64{4})),
				P99:    ptr(newSpread([]float64{12.346})),
				Errors: 2, First: "status 503", Cores: map[string]float64{"master": 1.5, "load": 0.25, "miner": 0.25},
				Settled: ptr(1.25), CPU: ptr(newSpread([]float64{300, 320, 290})), PeakRSS: 1500 << 20,
				Usage: []Usage{
					{Name: "master-1", CPU: newSpread([]float64{100, 110, 90}), PeakRSS: 700 << 20},
					{Name: "master-2", Leads: true, CPU: newSpread([]float64{200, 210, 200}), PeakRSS: 800 << 20},
					{Name: "load", CPU: newSpread([]float64{30.04})},
				},
			},
			{
				Name: "etcd-put-64", Title: "etcd: put of 256 B", System: systemEtcd, Clients: 64, Batch: 1,
				Rate: newSpread([]float64{5_000}), P50: ptr(newSpread([]float64{13})),
				P99: ptr(newSpread([]float64{40})), Cores: map[string]float64{"etcd": 1.5},
				CPU: ptr(newSpread([]float64{320})),
			},
			{
				Name: "etcd-put-1-leader", Title: "etcd: put of 256 B, at the leader", System: systemEtcd, Clients: 1,
				Batch: 1,
				Rate:  newSpread([]float64{400}), P50: ptr(newSpread([]float64{2})), P99: ptr(newSpread([]float64{8})),
				Cores: map[string]float64{"etcd": 0.5},
			},
			{
				Name: "append-1-leader", Title: "append of 256 B, at the leader", System: systemChainStore, Clients: 1,
				Batch: 1,
				Rate:  newSpread([]float64{450}), P50: ptr(newSpread([]float64{1.5})),
				P99:   ptr(newSpread([]float64{10})),
				Cores: map[string]float64{"master": 0.5},
			},
			{
				Name: "check-sha", Title: "bare SHA-256 of 1 KiB", System: systemCheck, Clients: 1, Batch: 1,
				Rate: newSpread([]float64{1_024_000}), Throughput: ptr(newSpread([]float64{1000})),
				Cores: map[string]float64{"load": 1}, CPU: ptr(newSpread([]float64{1})),
			},
			{
				Name: "check-1", Title: "check of records of 1 KiB, 1 thread", System: systemCheck, Clients: 1,
				Batch:      1,
				Rate:       newSpread([]float64{614_400, 512_000, 563_200}),
				Throughput: ptr(newSpread([]float64{600, 500, 550})),
				Cores:      map[string]float64{"load": 1.125},
			},
		},
		Memory: []Memory{
			{Name: "check", Chain: 64 << 20, IdleRSS: 20 << 20, PeakRSS: 45 << 20, Limit: memoryLimit},
			{Name: "receive", Chain: 512 << 20, IdleRSS: 20 << 20, PeakRSS: 120 << 20, Limit: memoryLimit},
		},
		Processes: []Process{
			{Name: "master-1", IdleRSS: 30 << 20, IdleCPU: 0.012, RSS: 120 << 20, PeakRSS: 250 << 20, CPU: 33.33,
				DiskSize: 1500 << 20},
			{Name: "miner-1", IdleRSS: 15 << 20, RSS: 15 << 20, PeakRSS: 16 << 20, CPU: 0.5},
		},
		Chain: &Chain{
			Blocks: 1234, Records: 5_678_901, Acknowledged: 5_678_900, Head: "00ab",
			Nodes: []Verify{{Name: "storage-1", Valid: true}, {Name: "storage-2", Problem: "block 7: bad root"}},
		},
		Notes: []string{"a note"},
	}
	r.Ratios, r.Targets = ratios(r.Results), targets(r.Results)
	return r
}

func TestReportAsText(t *testing.T) {
	var out bytes.Buffer
	if err := example().Print(&out); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/report.txt")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("it printed\n%s\nand testdata/report.txt is\n%s", &out, want)
	}
}

func TestReportAsJSON(t *testing.T) {
	encoded, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(encoded, &back); err != nil {
		t.Fatal(err)
	}
	if back.Results[2].Rate.Median != 15_500 || back.Results[1].P50 != nil || *back.Results[2].Settled != 1.25 ||
		!back.Chain.Nodes[0].Valid {
		t.Errorf("came back as %+v", back)
	}
	if back.Results[7].Throughput.Median != 550 || back.Results[0].Throughput != nil ||
		back.Memory[1].PeakRSS != 120<<20 {
		t.Errorf("came back as %+v", back)
	}
	empty, err := json.Marshal(newReport(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(empty), "null") {
		t.Errorf("an empty report has a null: %s", empty)
	}
}

func TestSpread(t *testing.T) {
	cases := []struct {
		runs             []float64
		median, min, max float64
	}{
		{nil, 0, 0, 0}, {[]float64{5}, 5, 5, 5}, {[]float64{3, 1, 2}, 2, 1, 3}, {[]float64{4, 1, 2, 3}, 2.5, 1, 4},
	}
	for _, c := range cases {
		s := newSpread(c.runs)
		if s.Median != c.median || s.Min != c.min || s.Max != c.max || !slices.Equal(s.Runs, c.runs) {
			t.Errorf("%v gives %+v", c.runs, s)
		}
	}
}

func TestRatiosNeedBoth(t *testing.T) {
	if got := ratios([]Result{{Name: "gin-64", Rate: Spread{Median: 10}}, {Name: "read-64"}}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	got := ratios([]Result{{Name: "gin-64", Rate: Spread{Median: 10}}, {Name: "read-64", Rate: Spread{Median: 5}}})
	if len(got) != 1 || got[0].Value != 0.5 || got[0].Of != "read-64" || got[0].Goal != 0 {
		t.Errorf("%+v", got)
	}
	all := Names()
	for _, c := range comparisons {
		to := strings.TrimSuffix(c.To, inPlain) // measured in turn with c.Of
		if !slices.Contains(all, c.Of) || !slices.Contains(all, to) || to != c.To && to != c.Of {
			t.Errorf("%s / %s compares what is not measured", c.Of, c.To)
		}
	}
}

func TestRatiosOfLatencies(t *testing.T) {
	spread := func(median float64) *Spread { return &Spread{Median: median} }
	got := ratios([]Result{
		{Name: "append-1-leader", Rate: Spread{Median: 1}, P50: spread(3), P99: spread(6)},
		{Name: "etcd-put-1-leader", Rate: Spread{Median: 2}, P50: spread(2), P99: spread(8)},
		{Name: "append-1-follower", Rate: Spread{Median: 1}},
		{Name: "etcd-put-1-follower", Rate: Spread{Median: 2}, P50: spread(2), P99: spread(8)},
	})
	if len(got) != 2 || got[0].What != whatP50 || got[0].Value != 1.5 || got[1].What != whatP99 ||
		got[1].Value != 0.75 {
		t.Fatalf("%+v", got)
	}
	got[0].Goal, got[1].Goal = 1, 1
	if got[0].reached() || !got[1].reached() {
		t.Errorf("a latency above the other's counts as reached, or one below as missed: %+v", got)
	}
	if rate := (Ratio{What: whatRate, Value: 0.5, Goal: 0.4}); !rate.reached() {
		t.Errorf("a rate above its goal counts as missed: %+v", rate)
	}
}

func TestPlaces(t *testing.T) {
	members := []string{"a", "b", "c"}
	for _, c := range []struct {
		at     place
		leader string
		want   string
	}{
		{atAny, "b", "a b c"}, {atLeader, "a", "a"}, {atLeader, "c", "c"}, {atFollower, "a", "b"},
		{atFollower, "c", "a"},
	} {
		if got := strings.Join(c.at.among(members, c.leader), " "); got != c.want {
			t.Errorf("place %d with leader %s gives %q, wanted %q", c.at, c.leader, got, c.want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 12345.6: "12,346",
		1_000_000: "1,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%v is written %q", n, got)
		}
	}
}

func TestChoose(t *testing.T) {
	cases := []struct {
		only []string
		want string
	}{
		{nil, strings.Join(Names(), " ")},
		{[]string{"append"}, "append-1-leader append-1-follower append-64 append-256 append-unchecked-64 " +
			"append-checked-64"},
		{[]string{"append-1"}, "append-1-leader append-1-follower"},
		{[]string{"read-64", "gin"}, "gin-64 gin-tick-64 read-64"},
		{[]string{"etcd-put"}, "etcd-put-64 etcd-put-256 etcd-put-1-leader etcd-put-1-follower"},
		{[]string{"gin-64", "read-hot"}, "gin-64 read-hot-64"},
		{[]string{"tls"}, "tls-append-64 tls-read-64"},
		{[]string{"immudb"}, "immudb-set-64 immudb-setall-64 immudb-get-64"},
	}
	for _, c := range cases {
		chosen, err := choose(c.only)
		var got []string
		for _, s := range chosen {
			got = append(got, s.name)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%v chose %v, %v", c.only, got, err)
		}
	}
	if _, err := choose([]string{"append", "nothing"}); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("a scenario that does not exist: %v", err)
	}
}

func TestRunRejectsInvalidConfig(t *testing.T) {
	good := Config{Dir: t.TempDir(), Runs: 1, Duration: time.Second, ReadRecords: 1, ChainMiB: 1}
	for name, change := range map[string]func(*Config){
		"--runs":         func(c *Config) { c.Runs = 0 },
		"--duration":     func(c *Config) { c.Duration = 0 },
		"--warmup":       func(c *Config) { c.Warmup = -1 },
		"--read-records": func(c *Config) { c.ReadRecords = 0 },
		"--chain-mib":    func(c *Config) { c.ChainMiB = maxChainMiB + 1 },
		"scenario":       func(c *Config) { c.Only = []string{"x"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(good.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
