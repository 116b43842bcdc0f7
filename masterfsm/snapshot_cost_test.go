package masterfsm

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm/streams"
)

const (
	// The median of this many snapshots counts. If other processes used the processor, the next round counts.
	snapshots, rounds = 15, 5
	// snapshotShare bounds the memory that is allocated to take a snapshot: one byte for this many bytes of the state.
	// A copy of the records would exceed this.
	snapshotShare = 12
)

// holdUp is the maximum time for which taking a snapshot may block applying. With `make times`, on an idle machine, it
// is a tenth of the usual limit.
func holdUp() time.Duration {
	if os.Getenv("CHAINSTORE_TIMES") == "" {
		return 100 * time.Millisecond
	}
	return 10 * time.Millisecond
}

// fullTable returns a table with the maximum content by default, or a fraction of it. It has perBlock records of the
// given size in each block, and also remembered keys, projects, workers, masters with full windows, and a full
// integrity log.
func fullTable(t testing.TB, part, size, perBlock int) *table {
	t.Helper()
	settings := DefaultSettings()
	settings.MaxRecords, settings.MaxPendingBytes = uint32(perBlock), settings.MaxPendingBytes/uint64(part)
	b := &table{t: t, State: New()}
	apply := func(c Command) {
		t.Helper()
		if _, err := b.Apply(Encode(c)); err != nil {
			t.Fatalf("%T: %v", c, err)
		}
	}
	apply(&BeginTerm{Term: 1, Member: "m1", URL: "http://m1", Time: startTime, Group: "g", Settings: settings})
	for i := range MaxProjects / part {
		token := chain.Hash([]byte(fmt.Sprintf("%-32d", i)))
		apply(&CreateProject{Name: fmt.Sprint("project ", i), TokenHash: token, Time: startTime})
	}
	for i := range 100 {
		apply(&Register{Role: RoleStorage, ID: fmt.Sprintf("s%03d", i), URL: fmt.Sprint("http://s", i),
			Time: startTime})
		apply(&Register{Role: RoleMiner, ID: fmt.Sprintf("m%03d", i), URL: fmt.Sprint("http://m", i), Time: startTime})
	}
	for range maxEvents {
		b.recordEvent(Event{Kind: EventFinding, Cause: TextCause("a finding"),
			Findings: make([]Finding, maxEventFindings)})
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range int(settings.MaxKeys) / part {
		b.keys.add(keyEntry{key: randomKey(random)})
	}
	for i := 0; b.streams.Bytes() < streams.MaxBytes/part-1000; i++ {
		b.streams.Add(uint32(i), streams.Name(randomKey(random)), []streams.Run{{Count: 1}},
			streams.Use{Window: streams.Window})
	}

	record := chain.Record{Project: 1, Payload: make([]byte, size)}
	encoded, commit := record.AppendTo(nil), record.Commit()
	for seq := uint64(1); b.pendingBytes < settings.MaxPendingBytes; seq++ {
		s := NewSubmission(nil, fmt.Sprint("member ", seq%maxMasters), 1, seq)
		for range 100 {
			s.StartRequest(1, Digest{}, Digest{})
			for range 10 {
				s.AddEncoded(commit, encoded)
			}
		}
		if _, err := only(b.Apply(EncodeAppend(startTime, Leadership{}, s.Bytes()))); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// snapshotShapes are tables with the maximum number of parts: blocks cut under load, and blocks of a slow trickle of
// single records while the storage nodes are down for three days.
var snapshotShapes = []struct {
	name           string
	size, perBlock int
}{
	{"small records", 200, 16_384},
	{"large records", 64 << 10, 16_384},
	{"a record a block", 1 << 10, 1},
}

// TestSnapshotHoldsUpShortly checks that taking a snapshot does not copy client data, so that applying is blocked for
// less than 10 ms whatever the masters hold.
func TestSnapshotHoldsUpShortly(t *testing.T) {
	if testing.Short() {
		t.Skip("256 MiB of records")
	}
	part := 1
	if underRace {
		part = 8
	}
	for _, shape := range snapshotShapes {
		t.Run(shape.name, func(t *testing.T) {
			b := fullTable(t, part, shape.size, shape.perBlock)
			var before, after runtime.MemStats
			var took [snapshots]time.Duration
			for range rounds {
				runtime.ReadMemStats(&before)
				for i := range took {
					start := time.Now()
					s := b.Snapshot()
					took[i] = time.Since(start)
					runtime.KeepAlive(s)
				}
				runtime.ReadMemStats(&after)
				slices.Sort(took[:])
				if underRace || took[snapshots/2] < holdUp() {
					break
				}
			}
			each := (after.TotalAlloc - before.TotalAlloc) / snapshots
			t.Logf("%d MiB in %d blocks, %d keys, %d projects: %v (%v - %v), %d KiB", b.pendingBytes>>20, len(b.held),
				b.keys.count(),
				len(b.projects), took[snapshots/2], took[0], took[snapshots-1], each>>10)
			if !underRace && took[snapshots/2] >= holdUp() {
				t.Errorf("a snapshot holds up applying for %v", took[snapshots/2])
			}
			if each > b.pendingBytes/snapshotShare {
				t.Errorf("a snapshot of %d bytes of records allocates %d bytes", b.pendingBytes, each)
			}
		})
	}
}

// BenchmarkApplyBesideSnapshot applies 100 records of 256 bytes, without and with snapshots of 256 MiB being written.
func BenchmarkApplyBesideSnapshot(b *testing.B) {
	for _, writing := range []bool{false, true} {
		b.Run(fmt.Sprint("writing=", writing), func(b *testing.B) {
			t := fullTable(b, 1, 200, 16_384)
			t.settings.MaxPendingBytes *= 100
			record := chain.Record{Project: 1, Payload: make([]byte, 256)}
			encoded, commit := record.AppendTo(nil), record.Commit()
			end, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				for writing {
					select {
					case <-end:
						return
					default:
						if err := t.Snapshot().Write(io.Discard); err != nil {
							b.Error(err)
						}
					}
				}
			}()
			took := make([]time.Duration, 0, b.N)
			for seq := uint64(1); b.Loop(); seq++ {
				s := NewSubmission(nil, "m", 1, seq)
				s.StartRequest(1, Digest{}, Digest{})
				for range 100 {
					s.AddEncoded(commit, encoded)
				}
				start := time.Now()
				if _, err := t.Apply(EncodeAppend(startTime, Leadership{}, s.Bytes())); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			close(end)
			<-ended
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
		})
	}
}
