package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// The chain of a test with transfers.
const (
	chainMiB = 16 / slower
	// midst is the offset in bytes at which a transfer is paused.
	midst = chainMiB << 20 / 4 * 3
	// sentAgain bounds the bytes that are sent again after a crash: bytes that the receiver had not made durable, and
	// bytes that were under way.
	sentAgain = 5 << 20
)

// repairsOf returns the repair events of a node, newest first.
func repairsOf(i wire.Integrity, url string) []wire.Event {
	return slices.DeleteFunc(slices.Clone(i.Events), func(e wire.Event) bool {
		return e.Kind != wire.EventRepair ||
			e.URL != url
	})
}

// TestTransferPartnersKilled kills the sender, the receiver and the leader during a transfer. It checks that the
// receiver gets all missing blocks, and that blocks that it already has are not sent again.
func TestTransferPartnersKilled(t *testing.T) {
	c, o := startForRepairs(t), newOracle()
	c.fill(o, "bulk", chainMiB, 3)
	r := c.newRelay()

	// The sender: another node continues while it is down. The receiver is a new, empty node.
	h := holdAt(midst)
	r.next(fate{hold: h, cut: midst}) // bytes that were sent but not read are lost
	r.startNode()
	r.awaitHeld(h)
	sender := c.awaitReceiving(r.url())
	senderID := nodeAt(c.integrity(), roleOf(c.Topology(), sender).URL()).ID
	c.kill(sender)
	close(h.goOn)
	i := c.awaitIntegrity("the new node valid while its first sender is dead", isValid(r.url()))
	told := repairsOf(i, r.url())
	if len(told) < 2 || told[0].Source == senderID || told[0].Blocks == 0 || told[len(told)-1].Source != senderID ||
		told[len(told)-1].CauseCoded.Code != wire.CodeRepairFailed {
		t.Errorf("after the sender %s was killed these repairs are told of: %+v", senderID, told)
	}
	c.launch(sender)
	c.awaitSettled(4)
	r.checkResumed(t, "the sender was killed")

	// The receiver. It has lost its blocks, but not its identity.
	id := nodeAt(i, r.url()).ID
	r.killNode()
	c.wipe(r.role.Data, "identity.json", "starts")
	h = r.holdNext(midst)
	r.startNode()
	r.awaitHeld(h)
	c.awaitReceiving(r.url())
	r.killNode()
	close(h.goOn)
	r.startNode()
	i = c.awaitIntegrity("the receiver valid again", isValid(r.url()))
	if now := nodeAt(i, r.url()).ID; now != id {
		t.Errorf("the receiver was %s and is %s", id, now)
	}
	c.awaitSettled(4)
	r.checkResumed(t, "the receiver was killed")

	// The leader: the transfer continues under the next leader.
	r.killNode()
	c.wipe(r.role.Data)
	h = r.holdNext(midst)
	r.startNode()
	r.awaitHeld(h)
	first := c.leader("")
	c.kill(first)
	c.leader(first)
	c.awaitReceiving(r.url())
	close(h.goOn)
	c.awaitIntegrity("the node valid under the next leader", isValid(r.url()))
	c.launch(first)
	c.awaitSettled(4)
	if seen := r.seen(); len(seen) != 1 || seen[0].status != http.StatusNoContent {
		t.Errorf("the leader was killed during one transfer, and there were %d; the first was answered with %d",
			len(seen), seen[0].status)
	}
	c.verify(o, r.role.Data)
}

// checkResumed checks that no more bytes were sent again than necessary.
func (r *relay) checkResumed(t *testing.T, what string) {
	t.Helper()
	seen := r.seen()
	if got := r.carried(); len(seen) < 2 || got > chainMiB<<20+sentAgain {
		t.Errorf("%s: %d bytes travelled in %d transfers, for a chain of %d MiB", what, got, len(seen), chainMiB)
	}
}

// TestTransferCut breaks the connections of a transfer many times, at different offsets. It checks that a new, empty
// node receives all blocks, and that the cluster reports the interruptions.
func TestTransferCut(t *testing.T) {
	c, o := startForRepairs(t), newOracle()
	c.fill(o, "bulk", chainMiB, 3)
	before := c.integrity()
	const quarter = chainMiB << 20 / 4
	var fates []fate
	for _, at := range []int64{1, 7, 1000, 100 << 10, 1 << 20, quarter + 777, quarter, quarter} {
		fates = append(fates, fate{cut: at})
	}
	r := c.newRelay()
	h := holdAt(1 << 20)
	r.next(append(fates, fate{hold: h})...)
	r.startNode()
	r.awaitHeld(h)
	sender := c.awaitReceiving(r.url())
	i := c.integrity()
	if n := nodeAt(i, r.url()); n.Task == nil || n.Task.Blocks == 0 || n.Task.Bytes == 0 ||
		n.CauseCoded.Code != wire.CodeBehind {
		t.Errorf("in the midst of its repair the node is told of as %+v, task %+v", n, n.Task)
	}
	if n := nodeAt(i, roleOf(c.Topology(), sender).URL()); n.State != "sending" || n.Task == nil ||
		n.Task.Kind != "send" {
		t.Errorf("in the midst of the repair its sender is told of as %+v, task %+v", n, n.Task)
	}
	close(h.goOn)
	i = c.awaitIntegrity("the new node valid", isValid(r.url()))
	seen := r.seen()
	for k := range fates {
		if seen[k].bytes != fates[k].cut || seen[k].status == http.StatusNoContent {
			t.Errorf("transfer %d was to be cut behind %d bytes; %d came, the answer was %d", k, fates[k].cut,
				seen[k].bytes, seen[k].status)
		}
	}
	if last := seen[len(seen)-1]; last.status != http.StatusNoContent {
		t.Errorf("the last of %d transfers was answered with %d", len(seen), last.status)
	}
	// Blocks that were complete when the connection broke are not sent again. At most one block and the headers are.
	if got := r.carried(); got > chainMiB<<20+int64(len(seen))*400<<10 {
		t.Errorf("%d bytes travelled in %d transfers, for a chain of %d MiB", got, len(seen), chainMiB)
	}
	status := c.awaitSettled(4)
	told := repairsOf(i, r.url())
	// The last block may have the record of the node's registration, and come from the masters.
	filled := i.Totals.RepairedBlocks - before.Totals.RepairedBlocks
	if len(told) == 0 || told[0].Source == "" || filled > status.Head.Height || filled+1 < status.Head.Height ||
		i.Totals.RepairedBytes-before.Totals.RepairedBytes < chainMiB<<20 {
		t.Errorf("a node was filled with %d blocks, and this is told of it: %+v, totals %+v", status.Head.Height, told,
			i.Totals)
	}
	c.verify(o, r.role.Data)
}

// TestForgedTransfer checks that a transfer without a ticket, or with an expired one, changes nothing. A sender whose
// bytes are wrong, or are changed on the way, is refused, checked, and replaced. No reader gets a wrong byte meanwhile.
func TestForgedTransfer(t *testing.T) {
	c, o := startForRepairs(t), newOracle()
	c.fill(o, "bulk", chainMiB/2, 3)
	before := c.integrity()
	l := c.startLoad(o)
	r := c.newRelay()
	h := holdAt(1 << 20)
	flips := []fate{{flip: 200 << 10}, {flip: 300 << 10}, {flip: 400 << 10}}
	r.next(append(flips, fate{hold: h})...)
	r.startNode()
	r.awaitHeld(h)
	l.more(some / 3)
	i := c.integrity()
	seen := r.seen()
	for k := range flips {
		if seen[k].status != http.StatusUnprocessableEntity {
			t.Errorf("transfer %d, with a wrong byte, was answered with %d", k, seen[k].status)
		}
	}
	if got := i.Totals.FailedRepairs - before.Totals.FailedRepairs; got != uint64(len(flips)) {
		t.Errorf("%d repairs failed, for %d transfers with a wrong byte: %+v", got, len(flips), i.Events)
	}
	suspects := slices.DeleteFunc(slices.Clone(i.Events), func(e wire.Event) bool {
		return e.Kind != wire.EventSuspect || e.CauseCoded.Code != wire.CodeFaultySender
	})
	if len(suspects) != len(flips) {
		t.Errorf("%d senders were suspected, for %d transfers with a wrong byte: %+v", len(suspects), len(flips),
			i.Events)
	}

	// While the repair is open and a transfer is under way: an old ticket, a wrong one, and none.
	begin, open := seen[len(seen)-1].begin, seen[len(seen)-1].ticket
	for what, ticket := range map[string]string{
		"none": "", "a wrong one": "wrong", "a shorter one": open[:len(open)-1], "a longer one": open + "x",
		"that of an ended repair": seen[0].ticket, "the cluster's token": c.File().Tokens.Cluster,
	} {
		c.forge(r, what, ticket, begin)
	}
	close(h.goOn)
	l.more(some / 3)
	l.end()
	c.awaitSettled(4)
	if last := r.seen()[len(flips)]; last.status != http.StatusNoContent {
		t.Errorf("the transfer that somebody tried to take the place of was answered with %d", last.status)
	}

	// After the repair: its own ticket is refused as well.
	files := c.listing(r.role.Data)
	for what, ticket := range map[string]string{
		"none": "", "a wrong one": "wrong", "that of the last repair": open,
		"that of an earlier repair": seen[0].ticket,
	} {
		c.forge(r, what, ticket, begin)
	}
	if after := c.listing(r.role.Data); !slices.Equal(after, files) {
		t.Errorf("forged transfers changed the folder from %q to %q", files, after)
	}
	c.verify(o, r.role.Data)
}

// forge sends a transfer directly to the node, which must refuse it.
func (c *cluster) forge(r *relay, what, ticket string, stream []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.role.URL()+wire.PathTransfer,
		bytes.NewReader(stream))
	if err != nil {
		c.t.Fatal(err)
	}
	if ticket != "" {
		request.Header.Set("Authorization", "Bearer "+ticket)
	}
	response, err := c.prove(http.DefaultClient, c.secrets().For(nodeauth.Storage))(request)
	if err != nil {
		c.t.Errorf("a transfer whose ticket is %s: %v", what, err)
		return
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		c.t.Errorf("a transfer whose ticket is %s: %v", what, err)
	}
	if response.StatusCode != http.StatusUnauthorized {
		c.t.Errorf("a transfer whose ticket is %s was answered with %d: %s", what, response.StatusCode, answer)
	}
}

// TestLostIdentity checks that a node that has lost its identity replaces its former self, and keeps its blocks.
func TestLostIdentity(t *testing.T) {
	c, o := startForRepairs(t), newOracle()
	c.fill(o, "bulk", 4, 3)
	l := c.startLoad(o)
	for _, test := range []struct {
		name string
		lose func(dir string)
		all  bool // its blocks are lost too
	}{
		{"storage-2", func(dir string) {
			if err := os.Remove(filepath.Join(dir, "identity.json")); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"storage-3", func(dir string) { c.wipe(dir) }, true},
	} {
		role := roleOf(c.Topology(), test.name)
		before := c.integrity()
		old := nodeAt(before, role.URL())
		c.kill(test.name)
		test.lose(role.Data)
		c.launch(test.name)
		after := c.awaitIntegrity(test.name+" in the place of its old self", func(i wire.Integrity) string {
			if n := nodeAt(i, role.URL()); n.ID == old.ID || n.State != "valid" {
				return fmt.Sprintf("%+v", i.Nodes)
			}
			return ""
		})
		if len(after.Nodes) != 3 ||
			slices.ContainsFunc(after.Nodes, func(n wire.NodeIntegrity) bool { return n.ID == old.ID }) {
			t.Errorf("%s was %s; now there are %+v", test.name, old.ID, after.Nodes)
		}
		moved := after.Totals.RepairedBlocks - before.Totals.RepairedBlocks
		if test.all && moved < old.Height || !test.all && moved != 0 {
			t.Errorf("%s: %d blocks were sent; it had %d", test.name, moved, old.Height)
		}
		c.awaitComplete(3)
		l.more(some / 3)
	}
	l.end()
	c.verify(o)
}

// TestStorageRemoved checks that a node is not removed while too few copies would remain, unless the request is forced.
// After the removal the node exits with instructions, and is not admitted again.
func TestStorageRemoved(t *testing.T) {
	c, o := startForRepairs(t), newOracle()
	dir := c.startFourthStorage(c.followers(c.leader(""))[0])
	c.awaitComplete(4)
	topology := c.Topology()
	topology.Storages = 4
	url := roleOf(topology, "storage-4").URL()
	i := c.integrity()
	id := nodeAt(i, url).ID

	// Two nodes lack blocks that the other two have. Neither of these may be removed.
	c.kill("storage-2", "storage-3")
	entries := bulk("kept by two", 8)
	at, err := c.client(c.File().Masters...).AppendBatch(t.Context(), entries, "")
	if err != nil {
		t.Fatal(err)
	}
	o.ack(entries, at)
	c.await("blocks that two nodes have", func() string {
		s, err := c.status()
		if err != nil || s.Stored <= at[len(at)-1].Block {
			return fmt.Sprintf("%d blocks are stored, %v", s.Stored, err)
		}
		return ""
	})
	admin := c.admin()
	for _, name := range []string{id, url} {
		if err := admin.RemoveStorage(t.Context(), name, false); !errors.Is(err, wire.ErrTooFewCopies) {
			t.Fatalf("the removal of %s, with one good copy left, was answered with %v", name, err)
		}
	}
	if err := admin.RemoveStorage(t.Context(), "s-nobody", true); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("the removal of a node that there is not was answered with %v", err)
	}
	if i = c.integrity(); len(i.Nodes) != 4 {
		t.Errorf("refused removals left %+v", i.Nodes)
	}
	if err := admin.RemoveStorage(t.Context(), url, true); err != nil {
		t.Fatal(err)
	}
	c.awaitRemoved(dir)
	// It is not admitted again.
	role := roleOf(topology, "storage-4")
	if c.fourth.running, err = c.fourth.launcher.Launch(topology, role, c.File().Tokens); err != nil {
		t.Fatal(err)
	}
	c.awaitRemoved(dir)
	c.launch("storage-2", "storage-3")
	c.awaitComplete(3)
	recorded := 0
	for act, err := range admin.Audit(t.Context(), client.ListQuery{Key: "storage/" + id}) {
		if err != nil {
			t.Fatal(err)
		}
		if act.Act == trail.StorageRemove && act.Before[0].Value == url &&
			len(act.After) == 1 && act.After[0].Name == "force" {
			recorded++
		}
	}
	if recorded != 1 {
		t.Errorf("the audit trail has %d records of the removal", recorded)
	}
	// It is admitted as a new node. With three other nodes it can be removed without force.
	if err := os.Remove(filepath.Join(dir, "identity.json")); err != nil {
		t.Fatal(err)
	}
	if c.fourth.running, err = c.fourth.launcher.Launch(topology, role, c.File().Tokens); err != nil {
		t.Fatal(err)
	}
	c.awaitSettled(4)
	if err := admin.RemoveStorage(t.Context(), url, false); err != nil {
		t.Errorf("the removal of one of four good nodes: %v", err)
	}
	_ = c.fourth.running.Stop() // unless it has already exited by itself
	c.fourth.running = nil
	c.verify(o)
}

// awaitRemoved waits until the process of the fourth node has exited by itself, and checks its output.
func (c *cluster) awaitRemoved(dir string) {
	c.t.Helper()
	c.await("the end of the node that was removed", func() string {
		select {
		case <-c.fourth.running.Done():
			return ""
		default:
			return "it runs"
		}
	})
	err := c.fourth.running.Err()
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "identity.json")) ||
		!strings.Contains(err.Error(), "Removed from the cluster") {
		c.t.Errorf("a node that was removed ended with: %v", err)
	}
	c.fourth.running = nil
}

// TestAppendsDuringRepair appends more than the masters may hold while one of three nodes sends blocks to another. It
// checks that no append is rejected because of a full backlog.
func TestAppendsDuringRepair(t *testing.T) {
	const backlog = 8 << 20
	c, o := startWith(t, func(topology *devcluster.Topology) {
		largeBlocks(topology)
		topology.Storages = 2
		topology.Settings.MaxPendingBytes = backlog
		topology.Settings.RetainBytes = backlog
	}), newOracle()
	c.fill(o, "bulk", 4, 2)
	r := c.newRelay()
	h := r.holdNext(2 << 20)
	r.startNode()
	r.awaitHeld(h)
	c.awaitReceiving(r.url())

	const writers, each = 4, backlog / 4 * 5 / recordBytes / 4
	before := o.count()
	var writing sync.WaitGroup
	failed := make(chan error, writers)
	for w := range writers {
		// A client that does not retry, so that it reports a full backlog.
		cl, err := client.New(client.Config{Masters: c.File().Masters, Token: c.File().Tokens.Project, RetryFor: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.CloseIdle)
		writing.Go(func() {
			tick := time.NewTicker(slower * 20 * time.Millisecond)
			defer tick.Stop()
			for _, e := range bulk(fmt.Sprintf("writer-%d", w), each) {
				select {
				case <-tick.C:
				case <-t.Context().Done():
					return
				}
				at, err := cl.Append(t.Context(), e)
				if err != nil {
					failed <- fmt.Errorf("writer %d, %s: %w", w, e.Key, err)
					return
				}
				o.ack([]client.Entry{e}, []wire.Position{at})
			}
		})
	}
	writing.Wait()
	close(failed)
	for err := range failed {
		t.Errorf("an append during a repair: %v", err)
	}
	if i := c.integrity(); nodeAt(i, r.url()).State != "receiving" {
		t.Errorf("the repair was to last until all was appended: %+v", i.Nodes)
	}
	close(h.goOn)
	c.awaitSettled(3)
	if got := o.count() - before; got != writers*each {
		t.Errorf("%d of %d records were acknowledged", got, writers*each)
	}
	c.verify(o, r.role.Data)
}
