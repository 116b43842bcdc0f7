package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// damage is one row of the matrix in docs/integrity.md: damage to the files of one storage node, while it runs and
// while it is down.
type damage struct {
	name string
	do   func(d *disk)
	// found is the kind of event that the integrity log must contain if the node was running. It is "" for harmless
	// damage, and for damage to files that are only read at a start.
	found string
	// foundDown is the same for damage while the node was down. Files that are derived from the blocks are computed
	// again at the start, without an event.
	foundDown string
	// stranger: the node comes back as a new node.
	stranger bool
}

// damages are the rows of the matrix.
var damages = []damage{
	// The blocks.
	{"segment: a bit in a payload", func(d *disk) { d.flip(d.block + chain.BlockOverhead(d.header.Count) + d.payload) },
		"finding", "finding", false},
	{"segment: a bit in a salt", func(d *disk) { d.flip(d.block + chain.BlockOverhead(d.header.Count) + d.salt) },
		"finding", "finding", false},
	{"segment: a bit in a header", func(d *disk) { d.flip(d.block + 60) }, "finding", "finding", false},
	{"segment: a bit in a nonce", func(d *disk) { d.flip(d.block + chain.HeaderSize - 1) }, "finding", "finding",
		false},
	{"segment: a bit in the table of ends", func(d *disk) { d.flip(d.block + chain.HeaderSize + 3) }, "finding",
		"finding", false},
	{"segment: a bit in a frame's length", func(d *disk) { d.flip(d.block - 6) }, "finding", "finding", false},
	{"segment: a bit in a frame's checksum", func(d *disk) { d.flip(d.block - 2) }, "finding", "finding", false},
	{"segment: a bit in the file's header", func(d *disk) { d.flip(9) }, "finding", "", false},
	{"segment: a block removed", (*disk).removeBlock, "finding", "finding", false},
	{"segment: two blocks swapped", (*disk).swapBlocks, "finding", "finding", false},
	{"segment: cut mid-frame", func(d *disk) { d.truncate(int64(d.block) + 50) }, "finding", "finding", false},
	{"segment: the last one cut mid-frame", func(d *disk) { d.last(); d.truncate(int64(d.block) + 50) }, "finding",
		"finding", false},
	{"segment: deleted", func(d *disk) { d.must(os.Remove(d.path)) }, "finding", "finding", false},
	{"segment: the last one deleted", func(d *disk) { d.last(); d.must(os.Remove(d.path)) }, "finding", "finding",
		false},
	{"segment: a pipe in its place", (*disk).segmentIsAPipe, "finding", "finding", false},
	{"segment: emptied", func(d *disk) { d.truncate(0) }, "finding", "finding", false},
	{"segment: all deleted", (*disk).removeSegments, "finding", "finding", false},
	{"segment: another node's older copy of the last one", (*disk).olderCopy, "finding", "finding", false},
	{"segment: two files swapped", (*disk).swapFiles, "finding", "finding", false},
	{"segment: the chain mined again with one payload changed", (*disk).mineAgain, "finding", "finding", false},
	// Files that are derived from the blocks.
	{"index: a bit", func(d *disk) { d.at("index"); d.flip(8 + 28*3 + 5) }, "", "", false},
	{"index: cut", func(d *disk) { d.at("index"); d.truncate(8 + 28*2 + 5) }, "", "", false},
	{"index: deleted", func(d *disk) { d.at("index"); d.must(os.Remove(d.path)) }, "", "", false},
	{"tile: a bit in a leaf's hash", func(d *disk) { d.at("tiles/00"); d.flip(512 + 32*5 + 1) }, "tiles", "tiles",
		false},
	{"tile: a bit in an upper hash", func(d *disk) { d.at("tiles/04"); d.flip(512 + 32*5 + 1) }, "tiles", "tiles",
		false},
	{"tile: cut", func(d *disk) { d.at("tiles/00"); d.truncate(512 + 32*7) }, "tiles", "", false},
	{"tile: one deleted", func(d *disk) { d.at("tiles/00"); d.must(os.Remove(d.path)) }, "tiles", "", false},
	{"tile: all deleted", (*disk).removeTiles, "tiles", "", false},
	// A misplaced file or folder must not prevent the check of the blocks, so a bit of a payload is flipped as well.
	{"index: a folder in its place, and a bit in a payload", (*disk).indexIsAFolder, "finding", "finding", false},
	{"index: a link to itself, and a bit in a payload", (*disk).indexIsALoop, "finding", "finding", false},
	{"tile: a file in the place of the folder, and a bit in a payload", (*disk).tilesAreAFile, "finding", "finding",
		false},
	{"tile: a pipe in the place of one, and a bit in a payload", (*disk).tileIsAPipe, "finding", "finding", false},
	{"tile: a bit in the synced head", func(d *disk) { d.at("tiles/synced"); d.flip(20) }, "", "", false},
	{"records: a bit", func(d *disk) { d.run(); d.flip(100) }, "", "", false},
	{"records: cut", func(d *disk) { d.run(); d.truncate(100) }, "", "", false},
	{"records: garbage", func(d *disk) { d.run(); d.must(os.WriteFile(d.path, []byte("no index"), 0o600)) }, "", "",
		false},
	{"records: deleted", func(d *disk) { d.at("records"); d.must(os.RemoveAll(d.path)) }, "", "", false},
	// Other files.
	{"inbox: a file of garbage", func(d *disk) { d.inbox(nil) }, "", "", false},
	{"inbox: a block of another chain", func(d *disk) { d.inbox(d.read()[d.block : d.block+d.length]) }, "", "", false},
	{"identity: a bit", func(d *disk) { d.at("identity.json"); d.flip(30) }, "", "", true},
	{"identity: deleted", func(d *disk) { d.at("identity.json"); d.must(os.Remove(d.path)) }, "", "", true},
	{"starts: a bit", func(d *disk) { d.at("starts"); d.flip(12) }, "", "", true},
	{"lock: deleted", func(d *disk) { d.at("LOCK"); d.must(os.RemoveAll(d.path)) }, "", "", false},
	{"lock: written into", func(d *disk) { d.at("LOCK"); d.must(os.WriteFile(d.path, []byte("not empty"), 0o600)) }, "",
		"", false},
}

// TestDamageMatrix does every kind of damage to one storage node after the other, while it runs and while it is down,
// under a load that reads continuously. It checks that no reader gets a wrong byte or an error, that the damage is
// found and reported, and that all nodes become Valid again without intervention.
func TestDamageMatrix(t *testing.T) {
	c, o := startSmallSegments(t), newOracle()
	c.expectDamage, c.load.slow = true, true
	l := c.startLoad(o)
	l.more(6 * some)
	c.awaitSegments(4)
	older := c.copyLastSegment("storage-3")
	l.more(2 * some)
	nodes := c.storageNames()
	for i, row := range damages {
		for _, down := range []bool{false, true} {
			name := nodes[i%len(nodes)]
			mode := "running"
			if down {
				mode = "down"
			}
			ok := t.Run(row.name+", "+mode, func(t *testing.T) {
				part := *c
				part.t = t
				c := &damaged{cluster: &part, name: name}
				if c.name == "storage-3" && row.needsOlder() {
					c.name = "storage-1"
				}
				c.suffer(row, down, older)
			})
			if !ok {
				t.FailNow()
			}
			if o.failed() {
				o.report(t)
				t.Fatalf("a reader or a writer met something wrong at %s, %s", row.name, mode)
			}
		}
	}
	l.end()
	c.checkLists(o)
	c.verify(o)
}

// startSmallSegments starts a cluster with few blocks per segment and without scheduled checks. Its masters drop stored
// records, so that reads go to the storage nodes.
func startSmallSegments(t *testing.T) *cluster {
	t.Helper()
	return startWith(t, func(topology *devcluster.Topology) {
		smallSegments(topology)
		topology.CheckInterval = 0
	})
}

// startWithSegments is like startSmallSegments, and fills several segments of each storage node.
func startWithSegments(t *testing.T) (*cluster, *oracle) {
	t.Helper()
	c, o := startSmallSegments(t), newOracle()
	c.expectDamage = true
	l := c.startLoad(o)
	l.more(6 * some)
	c.awaitSegments(4)
	l.end()
	c.awaitSettled(3)
	return c, o
}

func smallSegments(topology *devcluster.Topology) {
	topology.SegmentBytes = 32 << 10
	topology.Settings.MaxBytes = 8 << 10
	topology.Settings.RetainBytes = 1 << 20
}

// needsOlder reports whether the damage needs an older copy of a segment.
func (d *damage) needsOlder() bool { return strings.Contains(d.name, "older copy") }

func (c *cluster) storageNames() []string { return []string{"storage-1", "storage-2", "storage-3"} }

// damaged is the cluster during one row of the matrix.
type damaged struct {
	*cluster
	name string // of the damaged role
}

func (c *damaged) suffer(row damage, down bool, older string) {
	before := c.integrity()
	url := roleOf(c.Topology(), c.name).URL()
	was, since := nodeAt(before, url), before
	if down {
		c.kill(c.name)
		// Ignore events of activities that were still running at the kill, such as a repair of a node that was behind.
		// They do not result from the damage.
		since = c.integrity()
		was = nodeAt(since, url)
	}
	d := c.disk()
	d.older, d.acked = older, was.Height
	row.do(d)
	found := row.found
	if down {
		found = row.foundDown
		c.launch(c.name)
	} else {
		if _, err := c.admin().CheckStorage(c.t.Context(), was.ID); err != nil {
			c.t.Fatal(err)
		}
	}
	now := c.awaitHealed(since, url, was)
	for tries, clean := 0, down; !clean && tries < 4; tries++ {
		// A check covers only blocks whose acknowledgement was in the table when it began. Later blocks need another
		// check, for example one that was written to a file that had been removed or replaced.
		was = nodeAt(now, url)
		if _, err := c.admin().CheckStorage(c.t.Context(), was.ID); err != nil {
			c.t.Fatal(err)
		}
		next := c.awaitHealed(now, url, was)
		clean = !told(now, next, url, "finding") && (found == "" || told(before, next, url, found))
		now = next
	}
	if !down && row.stranger { // takes effect at its next start
		c.kill(c.name)
		c.launch(c.name)
		c.await("another id", func() string {
			i, err := c.tryStory()
			if err != nil {
				return err.Error()
			}
			if n := nodeAt(i, url); n.ID == was.ID || n.State != "valid" || !n.Live || n.Due != "" {
				return fmt.Sprintf("%+v", n)
			}
			return ""
		})
	}
	if down && (nodeAt(now, url).ID != was.ID) != row.stranger {
		c.t.Errorf("its id was %s, and is %s", was.ID, nodeAt(now, url).ID)
	}
	if len(now.Nodes) != 3 || len(now.Lost) > 0 {
		c.t.Errorf("nodes %+v, lost %+v", now.Nodes, now.Lost)
	}
	c.checkEvents(since, now, url, found)
}

// awaitHealed waits until a node has been checked, or repaired if it had nothing to check, and all nodes are Valid.
func (c *damaged) awaitHealed(before wire.Integrity, url string, was wire.NodeIntegrity) (now wire.Integrity) {
	c.t.Helper()
	c.await("all valid again", func() (text string) {
		now, text = c.unhealed(before, url, was)
		return text
	})
	return now
}

// unhealed says why not all nodes are valid again, or "" if they are.
func (c *damaged) unhealed(before wire.Integrity, url string, was wire.NodeIntegrity) (now wire.Integrity, why string) {
	now, err := c.tryStory()
	if err != nil {
		return now, err.Error()
	}
	n := nodeAt(now, url)
	if n.Checked <= was.Checked && !told(before, now, url, "repair") {
		return now, fmt.Sprintf("%s was not checked: %+v", c.name, n)
	}
	for _, n := range now.Nodes {
		if n.State != "valid" || !n.Live || n.Due != "" || len(n.Bad) > 0 {
			return now, fmt.Sprintf("%+v; the integrity log: %+v", n, now.Events[:min(4, len(now.Events))])
		}
	}
	return now, ""
}

// told reports whether the integrity log has a new event of a kind.
func told(before, now wire.Integrity, url, kind string) bool {
	first := uint64(0)
	if len(before.Events) > 0 {
		first = before.Events[0].Number + 1
	}
	return slices.ContainsFunc(now.Events, func(e wire.Event) bool {
		return e.Number >= first && e.Kind == kind &&
			e.URL == url
	})
}

// checkEvents checks that the new events of the integrity log match the expected finding.
func (c *damaged) checkEvents(before, now wire.Integrity, url, found string) {
	c.t.Helper()
	var kinds []string
	first := uint64(0)
	if len(before.Events) > 0 {
		first = before.Events[0].Number + 1
	}
	for _, e := range now.Events {
		if e.Number < first || e.Kind == "suspect" {
			continue
		}
		if e.Kind == "repair" && slices.Contains([]string{wire.CodeBehind, wire.CodeLeftBehind, wire.CodeUnknownHeight},
			e.CauseCoded.Code) {
			continue // the node was down for longer than the masters keep stored records: no damage
		}
		if e.URL != url && e.Kind != "tiles" {
			c.t.Errorf("an event of another node: %+v", e)
		}
		kinds = append(kinds, e.Kind)
		for _, f := range e.Findings {
			c.t.Logf("found: block %d: %s: %s", f.Block, f.What, f.Detail)
		}
		if e.Kind == "repair" {
			c.t.Logf("repaired: %d blocks, %d bytes: %s", e.Blocks, e.Bytes, e.Cause)
		}
	}
	if found == "" && len(kinds) > 0 || found != "" && !slices.Contains(kinds, found) {
		c.t.Errorf("the integrity log has events %q, want %q", kinds, found)
	}
}

// admin returns a client with the admin token.
func (c *cluster) admin() *client.Client {
	c.t.Helper()
	cl, err := client.New(client.Config{Masters: c.File().Masters, Token: c.File().Tokens.Admin, RetryFor: patience,
		HTTP: c.Topology().HTTP})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.CloseIdle)
	return cl
}

// tryStory returns the integrity status from the leader.
func (c *cluster) tryStory() (wire.Integrity, error) {
	why := errNoLeader
	for _, m := range c.masters {
		ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
		i, err := m.Integrity(ctx)
		cancel()
		switch {
		case err != nil:
			why = errors.Join(why, err)
		case !i.Authoritative:
		default:
			return i, nil
		}
	}
	return wire.Integrity{}, why
}

func (c *cluster) integrity() (i wire.Integrity) {
	c.t.Helper()
	c.await("the integrity log", func() string {
		var err error
		if i, err = c.tryStory(); err != nil {
			return err.Error()
		}
		return ""
	})
	return i
}

func nodeAt(i wire.Integrity, url string) wire.NodeIntegrity {
	for _, n := range i.Nodes {
		if n.URL == url {
			return n
		}
	}
	return wire.NodeIntegrity{}
}

// awaitSegments waits until every storage node has at least n segments.
func (c *cluster) awaitSegments(n int) {
	c.t.Helper()
	c.await("several segments", func() string {
		for _, name := range c.storageNames() {
			firsts, err := segment.List(filepath.Join(roleOf(c.Topology(), name).Data, "segments"))
			if err != nil || len(firsts) < n {
				return fmt.Sprintf("%s has %d: %v", name, len(firsts), err)
			}
		}
		return ""
	})
}

// copyLastSegment copies a node's last segment, if that segment will still grow.
func (c *cluster) copyLastSegment(name string) string {
	c.t.Helper()
	url := roleOf(c.Topology(), name).URL()
	d := &disk{t: c.t, dir: roleOf(c.Topology(), name).Data}
	var data []byte
	c.await("a last segment that is not full", func() string {
		d.acked = nodeAt(c.integrity(), url).Height
		d.last()
		if data = d.read(); int64(len(data)) >= c.Topology().SegmentBytes {
			return fmt.Sprintf("%s has %d bytes", d.path, len(data))
		}
		return ""
	})
	copied := filepath.Join(c.dir, "older-"+filepath.Base(d.path))
	d.must(os.WriteFile(copied, data, 0o600))
	return copied
}

// TestSeveralNodesDamaged damages two nodes, and then all three, in different blocks at the same time. No node is
// undamaged. The test checks that every block is repaired from a node that has a good copy of it.
func TestSeveralNodesDamaged(t *testing.T) {
	c, o := startSmallSegments(t), newOracle()
	c.expectDamage = true
	l := c.startLoad(o)
	l.more(6 * some)
	c.awaitSegments(4)
	for _, suffering := range []int{2, 3} {
		before := c.integrity()
		was := map[string]wire.NodeIntegrity{}
		for i, name := range c.storageNames()[:suffering] {
			c := &damaged{cluster: c, name: name}
			d := c.disk()
			firsts := d.segments()
			for _, part := range []int{i, i + 3} { // two places, different on each node
				d.at(filepath.Join("segments", segment.Name(firsts[part*len(firsts)/6])))
				frames := d.frames()
				d.choose(frames[len(frames)-1])
				d.flip(d.block + chain.BlockOverhead(d.header.Count) + d.payload)
			}
			url := roleOf(c.Topology(), name).URL()
			was[url] = nodeAt(before, url)
		}
		for _, n := range was {
			if _, err := c.admin().CheckStorage(t.Context(), n.ID); err != nil {
				t.Fatal(err)
			}
		}
		for url, n := range was {
			c := &damaged{cluster: c, name: c.nameOf(url)}
			now := c.awaitHealed(before, url, n)
			if !told(before, now, url, "finding") || !told(before, now, url, "repair") {
				t.Errorf("%d nodes damaged: the integrity log of %s: %+v", suffering, c.name, now.Events)
			}
		}
	}
	l.end()
	c.verify(o)
}

// TestLostBlock damages a block on all nodes. It checks that the block is reported as lost by number, that everything
// else is still served, and that appends continue and are stored. After an administrator accepts the loss the nodes are
// Valid, and every verifier reports the missing block. An outsider without a token still checks the blocks beside it.
func TestLostBlock(t *testing.T) {
	c, o := startWithSegments(t) // without load: its readers would request the lost records
	lost := (&damaged{cluster: c, name: "storage-1"}).disk().header.Block
	for _, name := range c.storageNames() {
		d := (&damaged{cluster: c, name: name}).disk()
		if d.header.Block != lost {
			t.Fatalf("block %d stands where block %d is on another node", d.header.Block, lost)
		}
		d.flip(d.block + chain.BlockOverhead(d.header.Count) + d.payload)
	}
	for _, n := range c.integrity().Nodes {
		if _, err := c.admin().CheckStorage(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	hole := []chain.Range{{From: lost, To: lost + 1}}
	c.await("the block reported as lost", func() string {
		i, err := c.tryStory()
		if err != nil {
			return err.Error()
		}
		if !slices.Equal(i.Lost, hole) || len(i.Notices) == 0 {
			return fmt.Sprintf("lost %v, nodes %+v", i.Lost, i.Nodes)
		}
		return ""
	})
	c.appendStored(o, "after the loss")
	there := newOracle()
	var inHole []*ackedRecord
	for _, r := range o.all() {
		if r.at.Block != lost {
			there.take(r)
			continue
		}
		inHole = append(inHole, r)
	}
	c.readBack(there, sample)
	there.report(t)
	if _, err := c.admin().ConfirmLost(t.Context(), lost+1); !errors.Is(err, wire.ErrNotLost) {
		t.Errorf("confirm a block that is there: %v", err)
	}
	if _, err := c.admin().ConfirmLost(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	// The other records of the block still have proofs, and are still served.
	for _, r := range inHole {
		got, err := c.masters[0].Get(t.Context(), r.at.Block, r.at.Offset)
		if r.at.Offset == 0 && errors.Is(err, wire.ErrLost) {
			continue
		}
		// A master may have the lost one in memory, because a client has read it before the loss.
		if err != nil || r.differs(got) != "" {
			t.Errorf("%v of the lost block: %v, %s", r, err, r.differs(got))
		}
	}
	before := c.integrity()
	for _, n := range before.Nodes {
		if n.State != "valid" && n.State != "validating" {
			t.Errorf("confirmed, and yet %+v", n)
		}
		if _, err := c.admin().CheckStorage(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	c.await("checks that know of the hole", func() string {
		i := c.integrity()
		for k, n := range i.Nodes {
			if n.State != "valid" || n.Due != "" || n.Checked <= before.Nodes[k].Checked {
				return fmt.Sprintf("%+v", n)
			}
		}
		return ""
	})
	c.appendStored(o, "after the confirmation")
	c.auditBesideLost(lost)
	c.stop()
	for _, name := range c.storageNames() {
		found, err := audit.Verify(t.Context(), roleOf(c.Topology(), name).Data, nil)
		if err != nil || !slices.Equal(found.Lost, hole) || len(found.Bad) > 0 {
			t.Errorf("verify %s: %+v, %v", name, found, err)
		}
	}
}

// appendStored appends a record and waits until it is stored.
func (c *cluster) appendStored(o *oracle, payload string) {
	c.t.Helper()
	entry := client.Entry{Payload: []byte(payload)}
	at, err := c.masters[0].Append(c.t.Context(), entry)
	if err != nil {
		c.t.Fatal(err)
	}
	o.ack([]client.Entry{entry}, []wire.Position{at})
	c.await("a stored block", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		if s.Stored <= at.Block {
			return fmt.Sprintf("%d blocks are stored, the record is in block %d; %q", s.Stored, at.Block, s.Notices)
		}
		return ""
	})
}
