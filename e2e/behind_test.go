package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

const (
	floodWriters = 4
	// The oracle records the position of one in floodSample records, and reads those records back.
	floodSample = 500
	// Without CHAINSTORE_BEHIND, this many records of this size are appended: 224 MiB of log, more than raft keeps
	// after a snapshot.
	fewBehind, fewBehindSize = 28_000, 8 << 10
)

// flood is a load with too many acknowledged records to remember each. A record contains its writer and its number. The
// chain must contain every record once, and the records of one writer in order.
type flood struct {
	each  int               // records of each writer after the next append
	size  int               // minimum payload size
	ends  time.Time         // when append stops in any case; zero for never
	wrote [floodWriters]int // acknowledged records of each writer
	next  [floodWriters]int // number of the record that must come next in the chain
}

func (b *flood) payload(writer, number int) []byte {
	text := fmt.Sprintf("record %d/%d ", writer, number)
	return []byte(text + strings.Repeat("x", max(0, b.size-len(text))))
}

// found processes a record of the chain, and reports whether the record belongs to the flood.
func (b *flood) found(o *oracle, r *chain.Record) bool {
	var writer, number int
	if b == nil {
		return false
	}
	if _, err := fmt.Sscanf(string(r.Payload[:min(len(r.Payload), 40)]), "record %d/%d ", &writer,
		&number); err != nil || writer < 0 || writer >= floodWriters {
		return false
	}
	if number != b.next[writer] {
		o.fault("record %d of writer %d stands where %d is due", number, writer, b.next[writer])
	}
	b.next[writer] = number + 1
	return true
}

// records returns how many records are acknowledged.
func (b *flood) records() (n int) {
	for _, wrote := range b.wrote {
		n += wrote
	}
	return n
}

// ended reports whether the time is over.
func (b *flood) ended() bool { return !b.ends.IsZero() && !time.Now().Before(b.ends) }

// check reports a fault if the chain lacks records of the flood.
func (b *flood) check(o *oracle) {
	if b == nil {
		return
	}
	for writer, next := range b.next {
		if next != b.wrote[writer] {
			o.fault("writer %d has %d of its %d records in the chain", writer, next, b.wrote[writer])
		}
	}
}

// append makes the writers append records until each has as many as wanted, or the time ends. It passes the sampled
// positions to the oracle.
func (b *flood) append(c *cluster, o *oracle) error {
	writers, ctx := errgroup.WithContext(c.t.Context())
	for w := range floodWriters {
		cl := c.client(rotated(c.File().Masters, w)...)
		writers.Go(func() error {
			batcher := cl.NewBatcher(ctx, client.BatcherConfig{})
			err := b.write(ctx, o, batcher, w)
			if closed := batcher.Close(); err == nil {
				err = closed
			}
			return err
		})
	}
	return writers.Wait()
}

func (b *flood) write(ctx context.Context, o *oracle, batcher *client.Batcher, writer int) error {
	type sampled struct {
		client.Entry
		client.Future
	}
	var waiting []sampled
	settle := func(most int) error {
		for ; len(waiting) > most; waiting = waiting[1:] {
			at, err := waiting[0].Wait(ctx)
			if err != nil {
				return err
			}
			o.ack([]client.Entry{waiting[0].Entry}, []wire.Position{at})
		}
		return nil
	}
	number := b.wrote[writer]
	for ; number < b.each && !b.ended(); number++ {
		e := client.Entry{Payload: b.payload(writer, number)}
		f, err := batcher.Add(ctx, e)
		if err != nil {
			return err
		}
		if number%floodSample == 0 {
			waiting = append(waiting, sampled{e, f})
			if err := settle(4 * wire.MaxBatchRecords / floodSample); err != nil {
				return err
			}
		}
	}
	if err := batcher.Flush(ctx); err != nil {
		return err
	}
	b.wrote[writer] = number
	return settle(0)
}

// TestMasterFarBehind checks that a killed master catches up after the others have truncated the log entries that it
// needs. It receives a snapshot and is soon level with them. After a restart with this state in its folder it is ready
// at once.
func TestMasterFarBehind(t *testing.T) {
	if underRace {
		t.Skip(
			"224 MiB of log take minutes with the race detector; raftstore's TestSnapshots goes the same way with it")
	}
	c, o := startWith(t, func(topology *devcluster.Topology) {
		d := devcluster.NewTopology(topology.Dir, topology.Port) // blocks, segments and logs of default size
		topology.Settings, topology.LogLevel, topology.MaxAge = d.Settings, d.LogLevel, d.MaxAge
	}), newOracle()
	records, size := settings.behind, 0
	if records == 0 {
		records, size = fewBehind, fewBehindSize
	}
	o.flood = &flood{each: records / floodWriters, size: size}
	c.awaitComplete(3)
	leader := c.leader("")
	away := c.followers(leader)[0]
	url, data := roleOf(c.Topology(), away).URL(), roleOf(c.Topology(), away).Data
	masters := noderpc.NewMasters(noderpc.NewTransport(), c.secrets().For(nodeauth.Masters))
	t.Cleanup(masters.CloseIdle)
	applied := func(url string) (uint64, error) {
		ctx, cancel := context.WithTimeout(t.Context(), statusTimeout)
		defer cancel()
		m, err := masters.Member(ctx, url)
		return m.Applied, err
	}
	stood, err := applied(url)
	if err != nil {
		t.Fatal(err)
	}
	c.kill(away)
	c.tellSizes("killed: " + away)

	began := time.Now()
	if err := o.flood.append(c, o); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("%d records appended in %v, %.0f a second", records, took.Round(time.Millisecond),
		float64(records)/took.Seconds())
	c.tellSizes("appended")

	level := func(what string) {
		t.Helper()
		at, err := applied(roleOf(c.Topology(), c.leader("")).URL())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.launch(away)
		c.await(away+" level with the others", func() string {
			if has, err := applied(url); err != nil || has < at {
				return fmt.Sprintf("it is at %d of %d, %v", has, at, err)
			}
			return ""
		})
		t.Logf("%s: level with entry %d after %v", what, at, time.Since(began).Round(time.Millisecond))
		c.compareStates(o)
	}
	level("behind")
	if from := c.snapshotsRead(away); len(from) == 0 || from[len(from)-1] <= stood {
		t.Errorf("%s stood at entry %d and has read snapshots of %v: it was given the log", away, stood, from)
	} else {
		t.Logf("it stood at entry %d and was given the snapshot of entry %d", stood, from[len(from)-1])
	}
	c.tellSizes("level")
	c.kill(away)
	level("restarted")
	c.checkFolder(data)
	c.verify(o)
}

// readSnapshot matches the line of a master's log that names the snapshot its state was read from.
var readSnapshot = regexp.MustCompile(`state read from a snapshot.*index[^0-9]+(\d+)`)

// snapshotsRead returns the last entry of each snapshot that a master has read.
func (c *cluster) snapshotsRead(master string) (entries []uint64) {
	c.t.Helper()
	text, err := os.ReadFile(roleOf(c.Topology(), master).Log)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, found := range readSnapshot.FindAllStringSubmatch(string(text), -1) {
		entry, err := strconv.ParseUint(found[1], 10, 64)
		if err != nil {
			c.t.Fatal(err)
		}
		entries = append(entries, entry)
	}
	return entries
}

// folderSizes returns the size in bytes of a master's log and snapshots. It ignores files that disappear meanwhile.
func folderSizes(data string) (log, snapshots int64) {
	sizeOf := func(name string) (size int64) {
		_ = filepath.WalkDir(filepath.Join(data, name), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				if info, err := d.Info(); err == nil {
					size += info.Size()
				}
			}
			return nil
		})
		return size
	}
	return sizeOf("raft.db") + sizeOf("log"), sizeOf("snapshots")
}

// tellSizes logs the folder size and the peak memory of each master.
func (c *cluster) tellSizes(when string) {
	c.t.Helper()
	pids := c.PIDs()
	for _, name := range c.names(devcluster.KindMaster) {
		log, snapshots := folderSizes(roleOf(c.Topology(), name).Data)
		memory := "is down"
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[name])); err == nil {
			_, memory, _ = strings.Cut(string(status), "VmHWM:")
			memory, _, _ = strings.Cut(memory, "\n")
		}
		c.t.Logf("%s: %s has a log of %d MiB, snapshots of %d MiB; memory at most: %s", when, name, log>>20,
			snapshots>>20, strings.TrimSpace(memory))
	}
}

// mostLog is the maximum size of the log and raft.db by default while the state is small, including the overhead of
// segments and of bbolt. See raftstore/DESIGN.md.
const mostLog = 288 << 20

// checkFolder checks that a master's folder is within its bound.
func (c *cluster) checkFolder(data string) {
	c.t.Helper()
	if log, snapshots := folderSizes(data); log > mostLog || snapshots > 2*(320+48)<<20 {
		c.t.Errorf("%s has a log of %d bytes, and snapshots of %d", data, log, snapshots)
	}
}
