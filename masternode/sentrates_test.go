package masternode

import (
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// TestRatesOfManyProjects checks that an append does not look at the rates of all other projects, and that those that
// have nothing left to refill are dropped.
func TestRatesOfManyProjects(t *testing.T) {
	const projects = 20_000
	var r sentRates
	began := time.Now()
	at := began
	quota := masterfsm.Quota{RecordsPerSecond: 10}
	for i := range projects {
		at = at.Add(2 * time.Microsecond)
		if short := r.spend(quota, masterfsm.Demand{Project: uint32(i), Records: 1}, at); short != nil {
			t.Fatalf("project %d: %+v", i, short)
		}
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("%d appends took %v", projects, took)
	}
	r.spend(quota, masterfsm.Demand{Project: projects, Records: 1}, at.Add(2*time.Second))
	if len(r.spent) != 1 {
		t.Errorf("%d projects are kept", len(r.spent))
	}
}
