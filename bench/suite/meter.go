package suite

import (
	"fmt"
	"time"
)

// meter measures the processes under test over the runs of a scenario: the processor time of each per record, and the
// peak of its memory. Without processes of their own, this process is under test. For each run, begin, end and count
// are called in this order.
type meter struct {
	processes     processes
	before, after map[string]float64 // processor seconds, of the last run
	began         time.Time

	took    time.Duration        // of all runs
	seconds map[string]float64   // processor seconds in all runs, by group
	each    map[string][]float64 // microseconds per record in each run, by process
	total   []float64            // the same of all processes under test together
}

func newMeter(p processes) *meter {
	return &meter{processes: p, seconds: map[string]float64{}, each: map[string][]float64{}}
}

// reset resets the peaks of memory.
func (m *meter) reset() error {
	for _, p := range m.processes {
		if err := resetPeak(p.pid); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (m *meter) begin() (err error) {
	m.before, err = m.processes.cpu()
	m.began = time.Now()
	return err
}

func (m *meter) end() (err error) {
	elapsed := time.Since(m.began)
	m.after, err = m.processes.cpu()
	if err != nil {
		return err
	}
	m.took += elapsed
	for group, n := range m.processes.cores(m.before, m.after, elapsed) {
		m.seconds[group] += n * elapsed.Seconds()
	}
	return nil
}

// count attributes the processor time of the last run to the records that were acknowledged or read in it. A run
// without records has no value.
func (m *meter) count(records uint64) {
	if records == 0 {
		return
	}
	add := func(name string) float64 {
		used := max(0, m.after[name]-m.before[name]) * 1e6 / float64(records)
		m.each[name] = append(m.each[name], used)
		return used
	}
	total := 0.0
	for _, p := range m.processes {
		total += add(p.name)
	}
	load := add(self)
	if len(m.processes) == 0 {
		total = load
	}
	m.total = append(m.total, total)
}

// report enters what was measured in a result.
func (m *meter) report(r *Result) error {
	r.Cores = map[string]float64{}
	for group, seconds := range m.seconds {
		r.Cores[group] = seconds / m.took.Seconds()
	}
	if len(m.total) > 0 {
		total := newSpread(m.total)
		r.CPU = &total
	}
	for _, p := range m.processes {
		u, err := usageOf(p.pid)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.PeakRSS += u.peak
		r.Usage = append(r.Usage, Usage{Name: p.name, Leads: p.leads, CPU: newSpread(m.each[p.name]), PeakRSS: u.peak})
	}
	r.Usage = append(r.Usage, Usage{Name: self, CPU: newSpread(m.each[self])})
	return nil
}
