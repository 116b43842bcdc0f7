package masternode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// progress is what the liveness oracle compares: the figures that must grow while there are no faults.
type progress struct {
	checked   map[string]uint64 // end of the last check of each storage node, by URL
	checks    uint64            // number of ended checks
	bytes     uint64            // that the checks read
	stored    uint64            // stored blocks
	published uint64            // leaves of the published checkpoint
}

func (r *rig) progress(t *testing.T) progress {
	t.Helper()
	i, c := r.Integrity(t.Context()), r.Cluster(t.Context())
	p := progress{
		checked: map[string]uint64{}, checks: i.Totals.Checks, bytes: i.Totals.CheckedBytes,
		stored: c.Stored, published: c.Checkpoint.PublishedSize,
	}
	for _, n := range i.Nodes {
		p.checked[n.URL] = n.Checked
	}
	return p
}

// stalled lists what has not grown since before. checks says whether nodes are checked on a schedule.
func (p progress) stalled(before progress, checks bool) (list []string) {
	grown := func(what string, was, now uint64) {
		if now <= was {
			list = append(list, fmt.Sprintf("%s: %d, was %d", what, now, was))
		}
	}
	grown("stored blocks", before.stored, p.stored)
	grown("leaves of the published checkpoint", before.published, p.published)
	if !checks {
		return list
	}
	for url, was := range before.checked {
		grown("end of the last check of "+url, was, p.checked[url])
	}
	grown("checks", before.checks, p.checks)
	grown("bytes that checks read", before.bytes, p.bytes)
	slices.Sort(list)
	return list
}

// livenessBound is how long everything may take to make progress once there are no faults, in virtual time. It is a few
// intervals of the checks, since one node is checked at a time.
const livenessBound = time.Minute

// checkLiveness checks that the cluster makes progress after the faults: an append gets into a stored block and under a
// published checkpoint, every node is checked on schedule, a quota refills, and an idempotency key is known until its
// age is over. forget: the simulation lasts so long that keys expire.
func (r *rig) checkLiveness(t *testing.T, forget bool) {
	t.Helper()
	before := r.progress(t)
	entries := []Entry{{Payload: []byte("after the faults")}}
	const key = "after the faults"
	began := time.Now()
	first, err := r.Append(t.Context(), r.project, entries, key)
	for errors.Is(err, wire.ErrNoLeader) && time.Since(began) < livenessBound { // the last election may take longer
		first, err = r.Append(t.Context(), r.project, entries, key)
	}
	if err != nil {
		t.Fatalf("append after the faults: %v", err)
	}
	began = time.Now()
	for {
		stalled := r.progress(t).stalled(before, r.cfg.CheckInterval > 0)
		if len(stalled) == 0 {
			break
		}
		if time.Since(began) > livenessBound {
			t.Fatalf("no progress within %v after the faults: %q; nodes %+v", livenessBound, stalled,
				r.Integrity(t.Context()).Nodes)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if booked, ended := r.progress(t).checks, r.checksEnded(); booked > ended {
		t.Errorf("%d checks are counted, the nodes have ended %d", booked, ended)
	}
	r.checkQuota(t)
	again, err := r.Append(t.Context(), r.project, entries, key)
	if err != nil || again.Positions[0].Index != first.Positions[0].Index {
		t.Errorf("a key within its age: %+v, %v; the first position was %+v", again, err, first)
	}
	if !forget {
		return
	}
	age := table(r, func(s *masterfsm.State) uint64 { return s.View().Settings.KeyAge })
	time.Sleep(2 * time.Duration(age) * time.Millisecond)
	// The age of keys moves with commands.
	if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("later")}}, ""); err != nil {
		t.Fatal(err)
	}
	again, err = r.Append(t.Context(), r.project, entries, key)
	if err != nil || again.Positions[0].Index == first.Positions[0].Index {
		t.Errorf("a key after twice its age: %+v, %v", again, err)
	}
}

// checksEnded returns the number of checks of all nodes that read the whole chain.
func (r *rig) checksEnded() (n uint64) {
	r.onAll(func(s *masterstest.Storage) { n += s.Ended })
	return n
}

// checkQuota checks that a quota refuses what is too much, and refills within the time that the refusal names.
func (r *rig) checkQuota(t *testing.T) {
	t.Helper()
	limits := &wire.Quota{RecordsPerSecond: 3}
	created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "limited", Quota: limits})
	if err != nil {
		t.Fatal(err)
	}
	access, err := r.Access(t.Context(), created.Token, mayAsk)
	if err != nil {
		t.Fatal(err)
	}
	project := access.Project
	entries := []Entry{{Payload: []byte("a")}, {Payload: []byte("b")}, {Payload: []byte("c")}}
	if _, err := r.Append(t.Context(), project, entries, ""); err != nil {
		t.Fatalf("append within a quota: %v", err)
	}
	_, err = r.Append(t.Context(), project, entries, "")
	var quota *wire.QuotaError
	if !errors.As(err, &quota) || quota.Wait > 1000 {
		t.Fatalf("append over a quota of 3 records a second: %v, %+v", err, quota)
	}
	time.Sleep(time.Duration(quota.Wait)*time.Millisecond + time.Second)
	if _, err := r.Append(t.Context(), project, entries, ""); err != nil {
		t.Errorf("append when a quota has refilled: %v", err)
	}
}

// TestStalled checks the oracle: for each figure that does not grow it must report that one.
func TestStalled(t *testing.T) {
	before := progress{checked: map[string]uint64{"a": 1, "b": 1}, checks: 1, bytes: 1, stored: 1, published: 1}
	all := func() progress {
		return progress{checked: map[string]uint64{"a": 2, "b": 2}, checks: 3, bytes: 9, stored: 2, published: 2}
	}
	if list := all().stalled(before, true); len(list) > 0 {
		t.Errorf("everything grows, and stalled are %q", list)
	}
	for what, change := range map[string]func(*progress){
		"stored blocks":                      func(p *progress) { p.stored = 1 },
		"leaves of the published checkpoint": func(p *progress) { p.published = 1 },
		"end of the last check of b":         func(p *progress) { p.checked["b"] = 1 },
		"end of the last check of a":         func(p *progress) { delete(p.checked, "a") },
		"checks":                             func(p *progress) { p.checks = 1 },
		"bytes that checks read":             func(p *progress) { p.bytes = 1 },
	} {
		p := all()
		change(&p)
		if list := p.stalled(before, true); len(list) != 1 || !strings.HasPrefix(list[0], what+":") {
			t.Errorf("stalled: %s; reported are %q", what, list)
		}
	}
}
