package suite

import (
	"os"
	"testing"
)

func TestMeterDividesByTheRecordsOfEachRun(t *testing.T) {
	m := newMeter(processes{
		{group: "master", name: "master-1", pid: os.Getpid(), leads: true}, {group: "master", name: "master-2",
			pid: os.Getpid()},
	})
	for _, run := range []struct {
		seconds float64 // of master-1 and of the load; master-2 uses twice as much
		records uint64
	}{{1, 1000}, {3, 1000}, {5, 0}, {2, 500}} {
		m.before = map[string]float64{"master-1": 10, "master-2": 10, self: 10}
		m.after = map[string]float64{
			"master-1": 10 + run.seconds, "master-2": 10 + 2*run.seconds, self: 10 + run.seconds,
		}
		m.count(run.records)
	}
	var r Result
	if err := m.report(&r); err != nil {
		t.Fatal(err)
	}
	if len(r.CPU.Runs) != 3 || r.CPU.Median != 9000 || r.CPU.Min != 3000 || r.CPU.Max != 12_000 {
		t.Errorf("all processes: %+v", r.CPU)
	}
	if len(r.Usage) != 3 || r.Usage[0].Name != "master-1" || !r.Usage[0].Leads || r.Usage[0].CPU.Median != 3000 ||
		r.Usage[1].CPU.Median != 6000 || r.Usage[1].Leads || r.Usage[2].Name != self || r.Usage[2].CPU.Median != 3000 {
		t.Errorf("%+v", r.Usage)
	}
	if r.PeakRSS != r.Usage[0].PeakRSS+r.Usage[1].PeakRSS || r.Usage[0].PeakRSS < 1<<20 || r.Usage[2].PeakRSS != 0 {
		t.Errorf("peak of %d bytes: %+v", r.PeakRSS, r.Usage)
	}
}

func TestMeterOfThisProcess(t *testing.T) {
	m := newMeter(nil)
	if err := m.begin(); err != nil {
		t.Fatal(err)
	}
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	m.before, m.after = map[string]float64{self: 1}, map[string]float64{self: 3, other: 50}
	m.count(1000)
	var r Result
	if err := m.report(&r); err != nil {
		t.Fatal(err)
	}
	if r.CPU.Median != 2000 || len(r.Usage) != 1 || r.PeakRSS != 0 {
		t.Errorf("%+v", r)
	}
	if _, ok := r.Cores[self]; !ok || len(r.Cores) != 2 {
		t.Errorf("cores: %v", r.Cores)
	}
}

func TestResetPeak(t *testing.T) {
	if err := newMeter(processes{{name: "this", pid: os.Getpid()}}).reset(); err != nil {
		t.Error(err)
	}
	if err := newMeter(processes{{name: "none", pid: 1 << 30}}).reset(); err == nil {
		t.Error("the peak of a process that does not exist was reset")
	}
}
