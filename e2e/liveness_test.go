package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// progress holds the figures of a cluster that must grow while there are no faults, and what the cluster reports as
// wrong.
type progress struct {
	checked   map[string]uint64 // end of the last check of each storage node, by URL
	totals    wire.Totals       // of the integrity log
	stored    uint64            // stored blocks
	tree      uint64            // leaves of the tree up to the stored blocks
	published uint64            // leaves of the published checkpoint
	wrong     []string          // roles that are not healthy
}

// progressOf combines a status and an integrity log.
func progressOf(s *wire.Cluster, i *wire.Integrity) progress {
	p := progress{
		checked: map[string]uint64{}, totals: i.Totals, stored: s.Stored, tree: s.Checkpoint.Size,
		published: s.Checkpoint.PublishedSize,
	}
	wrong := func(format string, args ...any) { p.wrong = append(p.wrong, fmt.Sprintf(format, args...)) }
	for _, n := range i.Nodes {
		p.checked[n.URL] = n.Checked
		// A check that runs is healthy. A repair, and a check that is due, must end.
		if n.State != "valid" && n.State != "validating" || !n.Live || n.Due != "" || len(n.Bad) > 0 {
			wrong("storage node %s is %s (%s), live %v, due %q, bad %v, task %+v", n.URL, n.State, n.Cause, n.Live,
				n.Due, n.Bad, n.Task)
		}
	}
	for _, m := range s.Masters {
		if m.State != "leader" && m.State != "follower" {
			wrong("master %s is %s", m.URL, m.State)
		}
	}
	for _, m := range s.Miners {
		if !m.Live {
			wrong("miner %s is not live", m.URL)
		}
	}
	for _, text := range slices.Concat(s.Notices, i.Notices) {
		wrong("notice: %s", text)
	}
	return p
}

// stalled lists what has not grown since before, and what is wrong now.
func (p progress) stalled(before progress) []string {
	list := slices.Clone(p.wrong)
	grown := func(what string, was, now uint64) {
		if now <= was {
			list = append(list, fmt.Sprintf("%s: %d, was %d", what, now, was))
		}
	}
	for _, url := range slices.Sorted(maps.Keys(before.checked)) {
		grown("end of the last check of "+url, before.checked[url], p.checked[url])
	}
	// As many checks must be counted as nodes were checked. A check reads at least the headers of the blocks.
	nodes := uint64(len(before.checked))
	grown("ended checks", before.totals.Checks+max(1, nodes)-1, p.totals.Checks)
	grown("bytes that checks read", before.totals.CheckedBytes+before.stored*chain.HeaderSize,
		p.totals.CheckedBytes)
	grown("stored blocks", before.stored, p.stored)
	grown("leaves of the stored blocks", before.tree, p.tree)
	grown("leaves of the published checkpoint", before.published, p.published)
	return list
}

// livenessBound is how long the cluster may take to make progress once there are no faults: to become healthy, to check
// every node, to store a block and to publish a checkpoint. docs/faults.md names it. The cluster needs a few intervals
// of the checks; a busy test machine needs the rest.
const livenessBound = patience

// tryProgress returns the progress by the leader.
func (c *cluster) tryProgress() (progress, error) {
	s, err := c.status()
	if err != nil {
		return progress{}, err
	}
	i, err := c.tryStory()
	if err != nil {
		return progress{}, err
	}
	return progressOf(&s, &i), nil
}

// awaitProgress waits until everything has made progress that must do so without faults. It fails the test after
// livenessBound.
func (c *cluster) awaitProgress(when string) {
	c.t.Helper()
	if list := c.stalledFor(livenessBound); len(list) > 0 {
		c.t.Fatalf("no progress within %v %s:\n%s", livenessBound, when, strings.Join(list, "\n"))
	}
}

// stalledFor lists what makes no progress for a time.
func (c *cluster) stalledFor(bound time.Duration) (list []string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), bound)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var before *progress
	for {
		now, err := c.tryProgress()
		switch {
		case err != nil:
			list = []string{err.Error()}
		case before == nil:
			before, list = &now, []string{"there is only one status"}
		default:
			if list = now.stalled(*before); len(list) == 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return list
		}
	}
}

// disagreements compares the totals of an integrity log with its events. dropped says that it does not have all events
// any more.
func disagreements(i *wire.Integrity) (list []string) {
	if n := len(i.Events); n == 0 || i.Events[n-1].Number > 0 {
		return nil // old events are dropped
	}
	var sum wire.Totals
	for _, e := range i.Events {
		switch {
		case e.Kind == wire.EventFinding:
			sum.BadBlocks += e.Blocks
		case e.Kind == wire.EventTiles:
			count, _ := e.CauseCoded.Args["count"].(uint64)
			sum.BadTiles += count
		case e.Kind == wire.EventRepair:
			sum.RepairedBlocks += e.Blocks
			sum.RepairedBytes += e.Bytes
			if e.CauseCoded.Code == wire.CodeRepairFailed {
				sum.FailedRepairs++
			} else {
				sum.Repairs++
			}
		}
	}
	compare := func(what string, total, events uint64, same bool) {
		if !same {
			list = append(list, fmt.Sprintf("%s: %d in total, %d by the events", what, total, events))
		}
	}
	t := &i.Totals
	compare("bad blocks", t.BadBlocks, sum.BadBlocks, t.BadBlocks == sum.BadBlocks)
	compare("bad tile hashes", t.BadTiles, sum.BadTiles, t.BadTiles == sum.BadTiles)
	compare("failed repairs", t.FailedRepairs, sum.FailedRepairs, t.FailedRepairs == sum.FailedRepairs)
	// A repair without a sender, from what the masters hold, is no event.
	compare("repairs", t.Repairs, sum.Repairs, t.Repairs >= sum.Repairs)
	compare("repaired blocks", t.RepairedBlocks, sum.RepairedBlocks, t.RepairedBlocks >= sum.RepairedBlocks)
	compare("repaired bytes", t.RepairedBytes, sum.RepairedBytes, t.RepairedBytes >= sum.RepairedBytes)
	return list
}

// checkTotals compares the totals with the events, and with the metrics of each master.
func (c *cluster) checkTotals(o *oracle) {
	c.t.Helper()
	i := c.integrity()
	for _, text := range disagreements(&i) {
		o.fault("the integrity log: %s", text)
	}
	for name, url := range c.File().Masters {
		c.await("metrics that agree with the integrity log", func() string {
			before, err := c.tryStory()
			if err != nil {
				return err.Error()
			}
			found, err := c.metrics(url)
			if err != nil {
				return err.Error()
			}
			after, err := c.tryStory()
			if err != nil {
				return err.Error()
			}
			return metricsDiffer(fmt.Sprint("master-", name+1), found, before.Totals, after.Totals)
		})
	}
}

// countedRecords returns the number of records in the open block and before it, and the sum of those of all projects.
func (c *cluster) countedRecords() (all, byProject uint64) {
	c.t.Helper()
	s := c.awaitStatus()
	for cursor := ""; ; {
		page, err := c.admin().Projects(c.t.Context(), cursor, 0)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, p := range page.Projects {
			byProject += p.Records
		}
		if cursor = page.Next; cursor == "" {
			return s.Records, byProject
		}
	}
}

// metricsDiffer compares the metrics of a master with the totals before and after. It returns "" if they agree.
func metricsDiffer(name string, found map[string]float64, before, after wire.Totals) string {
	for _, m := range []struct {
		name           string
		least, atLeast uint64
	}{
		{"checks", before.Checks, after.Checks},
		{"checked_bytes", before.CheckedBytes, after.CheckedBytes},
		{"bad_blocks", before.BadBlocks, after.BadBlocks},
		{"bad_tile_hashes", before.BadTiles, after.BadTiles},
		{"repairs", before.Repairs, after.Repairs},
		{"failed_repairs", before.FailedRepairs, after.FailedRepairs},
		{"repaired_blocks", before.RepairedBlocks, after.RepairedBlocks},
		{"repaired_bytes", before.RepairedBytes, after.RepairedBytes},
	} {
		value, ok := found["chainstore_"+m.name+"_total"]
		if !ok || value < float64(m.least) || value > float64(m.atLeast) {
			return fmt.Sprintf("%s: chainstore_%s_total is %v (present: %v), the integrity log has %d to %d", name,
				m.name, value, ok, m.least, m.atLeast)
		}
	}
	return ""
}

// metrics returns the metrics without labels of a process.
func (c *cluster) metrics(url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.File().Tokens.Admin)
	answer, err := c.httpClient().Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // read only
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s/metrics: %s", url, answer.Status)
	}
	found := map[string]float64{}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			found[name] = value
		}
	}
	return found, lines.Err()
}

// httpClient returns the client that reaches the masters over the tests' network.
func (c *cluster) httpClient() *http.Client {
	if client := c.Topology().HTTP; client != nil {
		return client
	}
	return http.DefaultClient
}

// TestLivenessOracle checks the liveness oracle with made-up histories: it must report each figure that stands still,
// each node that is stuck, and each total that differs from the events or the metrics.
func TestLivenessOracle(t *testing.T) {
	status := func(n uint64) wire.Cluster {
		return wire.Cluster{
			Stored: n, Checkpoint: wire.Checkpoints{Size: 10 * n, PublishedSize: 10 * n},
			Masters: []wire.Master{{URL: "m1", State: "leader"}, {URL: "m2", State: "follower"}},
			Miners:  []wire.Miner{{URL: "miner", Live: true}},
		}
	}
	integrity := func(n uint64) wire.Integrity {
		return wire.Integrity{
			Nodes: []wire.NodeIntegrity{
				{URL: "s1", State: "valid", Live: true, Checked: n},
				{URL: "s2", State: "validating", Live: true, Checked: n},
			},
			Totals: wire.Totals{Checks: 2 * n, CheckedBytes: 1 << (10 + n)},
		}
	}
	for _, row := range []struct {
		name, reported string
		change         func(*wire.Cluster, *wire.Integrity)
	}{
		{"everything grows", "", func(*wire.Cluster, *wire.Integrity) {}},
		{"a node is not checked", "end of the last check of s2", func(_ *wire.Cluster, i *wire.Integrity) {
			i.Nodes[1].Checked = 1
		}},
		{"a node has disappeared", "end of the last check of s2", func(_ *wire.Cluster, i *wire.Integrity) {
			i.Nodes = i.Nodes[:1]
		}},
		{"a check is not counted", "ended checks", func(_ *wire.Cluster, i *wire.Integrity) { i.Totals.Checks = 3 }},
		{"checks that read nothing", "bytes that checks read", func(_ *wire.Cluster, i *wire.Integrity) {
			i.Totals.CheckedBytes = 1 << 11
		}},
		{"no block is stored", "stored blocks", func(s *wire.Cluster, _ *wire.Integrity) { s.Stored = 1 }},
		{"the tree stands still", "leaves of the stored", func(s *wire.Cluster, _ *wire.Integrity) {
			s.Checkpoint.Size = 10
		}},
		{"no checkpoint is published", "leaves of the published", func(s *wire.Cluster, _ *wire.Integrity) {
			s.Checkpoint.PublishedSize = 10
		}},
		{"a repair does not end", "s1 is receiving", func(_ *wire.Cluster, i *wire.Integrity) {
			i.Nodes[0].State = "receiving"
		}},
		{"a node stays invalid", "s1 is invalid", func(_ *wire.Cluster, i *wire.Integrity) {
			i.Nodes[0].State = "invalid"
		}},
		{"a check stays due", `due "why"`, func(_ *wire.Cluster, i *wire.Integrity) { i.Nodes[0].Due = "why" }},
		{"a block stays bad", "bad [{3 4}]", func(_ *wire.Cluster, i *wire.Integrity) {
			i.Nodes[0].Bad = []chain.Range{{From: 3, To: 4}}
		}},
		{"a storage node is down", "live false", func(_ *wire.Cluster, i *wire.Integrity) { i.Nodes[0].Live = false }},
		{"a master is down", "master m2 is unreachable", func(s *wire.Cluster, _ *wire.Integrity) {
			s.Masters[1].State = "unreachable"
		}},
		{"a miner is down", "miner miner is not live", func(s *wire.Cluster, _ *wire.Integrity) {
			s.Miners[0].Live = false
		}},
		{"a notice remains", "notice: help", func(s *wire.Cluster, _ *wire.Integrity) { s.Notices = []string{"help"} }},
	} {
		s1, i1, s2, i2 := status(1), integrity(1), status(2), integrity(2)
		row.change(&s2, &i2)
		list := progressOf(&s2, &i2).stalled(progressOf(&s1, &i1))
		if said := strings.Join(list, "\n"); row.reported == "" && said != "" || row.reported != "" &&
			(len(list) != 1 || !strings.Contains(said, row.reported)) {
			t.Errorf("%s: reported is %q", row.name, said)
		}
	}

	failed := wire.Message{Code: wire.CodeRepairFailed}
	events := []wire.Event{
		{Number: 4, Kind: wire.EventTiles, CauseCoded: wire.Message{
			Code: wire.CodeTilesRewritten, Args: wire.Args{"count": uint64(5)},
		}},
		{Number: 3, Kind: wire.EventSuspect, Blocks: 77},
		{Number: 2, Kind: wire.EventRepair, Blocks: 2, Bytes: 20, CauseCoded: failed},
		{Number: 1, Kind: wire.EventRepair, Blocks: 3, Bytes: 30},
		{Number: 0, Kind: wire.EventFinding, Blocks: 3},
	}
	good := wire.Totals{
		Checks: 9, BadBlocks: 3, BadTiles: 5, Repairs: 1, FailedRepairs: 1, RepairedBlocks: 5, RepairedBytes: 50,
	}
	found := func(t wire.Totals) map[string]float64 {
		return map[string]float64{
			"chainstore_checks_total": float64(t.Checks), "chainstore_checked_bytes_total": float64(t.CheckedBytes),
			"chainstore_bad_blocks_total":      float64(t.BadBlocks),
			"chainstore_bad_tile_hashes_total": float64(t.BadTiles),
			"chainstore_repairs_total":         float64(t.Repairs),
			"chainstore_failed_repairs_total":  float64(t.FailedRepairs),
			"chainstore_repaired_blocks_total": float64(t.RepairedBlocks),
			"chainstore_repaired_bytes_total":  float64(t.RepairedBytes),
		}
	}
	for name, change := range map[string]func(*wire.Totals){
		"":                func(*wire.Totals) {},
		"bad blocks":      func(t *wire.Totals) { t.BadBlocks++ },
		"bad tile hashes": func(t *wire.Totals) { t.BadTiles-- },
		"repairs":         func(t *wire.Totals) { t.Repairs-- },
		"failed repairs":  func(t *wire.Totals) { t.FailedRepairs++ },
		"repaired blocks": func(t *wire.Totals) { t.RepairedBlocks-- },
		"repaired bytes":  func(t *wire.Totals) { t.RepairedBytes-- },
	} {
		i := wire.Integrity{Events: events, Totals: good}
		change(&i.Totals)
		said := strings.Join(disagreements(&i), "\n")
		if name == "" && said != "" || name != "" && !strings.HasPrefix(said, name+":") {
			t.Errorf("%q differs; reported is %q", name, said)
		}
		differ := metricsDiffer("m1", found(i.Totals), good, good)
		if metric := strings.ReplaceAll(name, " ", "_"); name == "" && differ != "" || name != "" &&
			!strings.Contains(differ, "chainstore_"+metric+"_total") {
			t.Errorf("%q differs in the metrics; reported is %q", name, differ)
		}
	}
	if metricsDiffer("m1", map[string]float64{}, good, good) == "" {
		t.Error("a master without metrics is not reported")
	}
}

// livenessMutants lists the alterations that stop progress, each with what the liveness oracle must report.
var livenessMutants = []struct{ name, alteration, reported string }{
	{"no scheduled check begins", "no-checks", "end of the last check of"},
	{"no block is cut because of its age", "no-cuts", "stored blocks"},
}

// TestLivenessNotice runs the liveness oracle on each mutant. It fails if the oracle does not report it.
func TestLivenessNotice(t *testing.T) {
	t.Parallel()
	for _, m := range livenessMutants {
		t.Run(m.name, func(t *testing.T) {
			c, topology := prepared(t, checkOften)
			c.program = altered(t, m.alteration)
			c.begin(topology)
			if _, err := c.masters[0].Append(t.Context(), client.Entry{Payload: []byte("a record")}); err != nil {
				t.Fatal(err)
			}
			said := strings.Join(c.stalledFor(10*time.Second), "\n")
			if !strings.Contains(said, m.reported) {
				t.Errorf("the liveness oracle does not say %q, but %q", m.reported, said)
			}
		})
	}
	t.Run("a metric counts wrong", func(t *testing.T) {
		c, topology := prepared(t, checkOften)
		c.program = altered(t, "miscounted")
		c.begin(topology)
		if _, err := c.masters[0].Append(t.Context(), client.Entry{Payload: []byte("a record")}); err != nil {
			t.Fatal(err)
		}
		c.await("a check that a metric does not count", func() string {
			i, err := c.tryStory()
			if err != nil || i.Totals.Checks < 2 {
				return fmt.Sprintf("%+v, %v", i.Totals, err)
			}
			found, err := c.metrics(c.File().Masters[0])
			if err != nil {
				return err.Error()
			}
			said := metricsDiffer("m1", found, i.Totals, i.Totals)
			if !strings.Contains(said, "chainstore_checks_total") {
				return "the oracle says " + said
			}
			return ""
		})
	})
}

// checkOften makes the nodes of a test be checked every few seconds.
func checkOften(topology *devcluster.Topology) { topology.CheckInterval = 2 * time.Second }
