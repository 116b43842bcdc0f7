package masternode

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// measured returns the histograms of a master by their names, without chainstore_.
func measured(t *testing.T, n *Node) map[string]*dto.Histogram {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.Histograms())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.Histogram{}
	for _, f := range families {
		found[strings.TrimPrefix(f.GetName(), "chainstore_")] = f.Metric[0].Histogram
	}
	return found
}

// counted describes how many values each histogram has that is not empty.
func counted(found map[string]*dto.Histogram) string {
	var text strings.Builder
	for _, name := range []string{"append", "commit", "fsync", "apply", "read", "proof", "forward"} {
		if n := found[name+"_seconds"].GetSampleCount(); n > 0 {
			fmt.Fprintf(&text, "%d %s, ", n, name)
		}
	}
	commits := found["records_per_commit"]
	fmt.Fprintf(&text, "%v records in %d", commits.GetSampleSum(), commits.GetSampleCount())
	return text.String()
}

// TestHistogramsAgreeWithEvents checks that each append, forwarded submission, commit, read and proof is counted once,
// on the master that had it, and that failures are not counted.
func TestHistogramsAgreeWithEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(c *Config, _ *rig) { c.Settings.MaxRecords = 7 })
		defer r.stop()
		follower := r.newFollower(t, masterAt("http://m1", r.Node))
		entries := func(n int) []Entry {
			all := make([]Entry, n)
			for i := range all {
				all[i].Payload = []byte{byte(i), 1}
			}
			return all
		}
		add := func(n *Node, records int, key string) []wire.Position {
			a, err := n.Append(t.Context(), r.project, entries(records), key)
			if err != nil {
				t.Fatal(err)
			}
			return a.Positions
		}
		positions := add(r.Node, 1, "")
		positions = append(positions, add(r.Node, 20, "key")...) // in several blocks
		add(r.Node, 20, "key")                                   // a retry adds no record
		positions = append(positions, add(follower, 5, "")...)
		for _, n := range []*Node{r.Node, follower} {
			if _, err := n.Append(t.Context(), r.project, nil, ""); err == nil {
				t.Error("an append of nothing was accepted")
			}
		}
		if _, err := r.Append(t.Context(), r.project, entries(1), "key"); err == nil {
			t.Error("another body under the same key was accepted")
		}
		if got, want := counted(measured(t, r.Node)), "3 append, 5 commit, 26 records in 5"; got != want {
			t.Errorf("the leader has %s; want %s", got, want)
		}
		if got, want := counted(measured(t, follower)), "1 append, 1 forward, 0 records in 0"; got != want {
			t.Errorf("the follower has %s; want %s", got, want)
		}

		time.Sleep(30 * time.Second) // virtual time to be cut, mined and stored
		for i, p := range positions {
			got, err := follower.RecordByIndex(t.Context(), r.access, p.Index)
			if err == nil && i < 10 {
				_, err = follower.Record(t.Context(), r.access, p.Block, p.Offset)
			}
			if err == nil && i == 0 {
				_, err = follower.Prove(t.Context(), got)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := follower.Record(t.Context(), r.access, 1000, 0); err == nil {
			t.Error("a record that is not there was read")
		}
		want := "1 append, 36 read, 1 proof, 1 forward, 0 records in 0"
		if got := counted(measured(t, follower)); got != want {
			t.Errorf("after the reads the follower has %s; want %s", got, want)
		}
	})
}

// TestReceiptsAreMeasured checks that receipts and proofs in checkpoints are counted once each, and failures are not.
func TestReceiptsAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProofRig(t, 300)
		defer r.stop()
		read := func(block uint64, offset uint32) Record {
			got, err := r.Record(t.Context(), r.access, block, offset)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		sealed := read(0, 1)
		if _, err := r.Receipt(t.Context(), sealed); err != nil {
			t.Fatal(err)
		}
		if _, err := r.LogProof(t.Context(), sealed); err != nil {
			t.Fatal(err)
		}
		a, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("open")}}, "")
		if err != nil {
			t.Fatal(err)
		}
		open := read(a.Positions[0].Block, a.Positions[0].Offset)
		if _, err := r.Receipt(t.Context(), open); err == nil {
			t.Error("a record of the open block has a receipt")
		}
		if n := measured(t, r.Node)["proof_seconds"].GetSampleCount(); n != 2 {
			t.Errorf("%d proofs are counted, not 2", n)
		}
	})
}

// slowMasters is a network on which a submission takes a second.
type slowMasters struct{ *masterstest.Masters }

func (m slowMasters) Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error) {
	time.Sleep(time.Second)
	return m.Masters.Submit(ctx, url, submission, fresh)
}

// TestQueuesAreMeasured checks the metrics of the queues while a submission takes a second: the appends that are not
// among those in flight wait. It also checks the durations.
func TestQueuesAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		defer r.stop()
		n := r.newFollower(t, slowMasters{masterAt("http://m1", r.Node)})
		var appends sync.WaitGroup
		const waiting = 4
		for range eagerSubmissions + waiting {
			appends.Go(func() {
				if _, err := n.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		f := n.Figures()
		if f.Appends != waiting || f.AppendBytes < waiting || f.Submissions != 0 || f.Confirmations != 0 {
			t.Errorf("%+v", f)
		}
		if f.Applied != r.ledger.Applied() || f.Committed != f.Applied || f.LastContact != r.ledger.LastContact() {
			t.Errorf("applied %d, committed %d, last contact %v", f.Applied, f.Committed, f.LastContact)
		}
		appends.Wait()
		if f := n.Figures(); f.Appends != 0 || f.AppendBytes != 0 {
			t.Errorf("afterwards: %+v", f)
		}
		// The two in flight take a second, and the others, together, a second more, after a wait for the first two
		// clients, which do not append again.
		found := measured(t, n)
		want := eagerSubmissions + waiting*(2+gatherTime.Seconds())
		if took := found["append_seconds"].GetSampleSum(); math.Abs(took-want) > 1e-9 {
			t.Errorf("all appends took %v s, want %v", took, want)
		}
		if h := found["forward_seconds"]; h.GetSampleCount() != eagerSubmissions+1 ||
			h.GetSampleSum() != eagerSubmissions+1 {
			t.Errorf("%d submissions took %v s", h.GetSampleCount(), h.GetSampleSum())
		}
	})
}
