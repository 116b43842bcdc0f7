package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// States of a storage node, as [wire.NodeIntegrity] has them.
const (
	stateValid      = string(masterfsm.Valid)
	stateValidating = string(masterfsm.Validating)
	stateInvalid    = string(masterfsm.Invalid)
	stateSending    = string(masterfsm.Sending)
	stateReceiving  = string(masterfsm.Receiving)
)

// checkPoll is the time between two looks at a check that is under way.
const checkPoll = 200 * time.Millisecond

// newCheckCommand has storage nodes check their chains.
func newCheckCommand() *cobra.Command {
	var noWait, asJSON bool
	cmd := &cobra.Command{
		Use:   "check [ID|URL]...",
		Short: "Have storage nodes check their whole chain, and wait for what they find",
		Long: `Have storage nodes check their whole chain: every payload is read from disk and hashed again, every
block held against the one
before it, the tree and its proof of work. Name nodes by their ids or URLs; without a name all are checked, one after
the other.
It takes the admin token.

Where bad blocks are found the cluster repairs the node from another one by itself, and the command stays until the
node is
valid again. Ctrl-C ends the command, not the check and not the repair.

A check that ends before it has looked at everything does not count: the result is "aborted" with the reason, the check
stays due, and the cluster tries it again.

The exit status is 1 when a node is not valid in the end or could not be checked to the end, or when blocks are lost and
nobody has confirmed that.`,
		Example:           "  chainstore check\n  chainstore check http://127.0.0.1:8082",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAdmin)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "order the checks and do not wait for them")
	addJSON(cmd, &asJSON, "print one JSON object a line for each node")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		now, err := c.Integrity(cmd.Context())
		if err != nil {
			return err
		}
		nodes, err := chooseNodes(&now, args)
		if err != nil {
			return err
		}
		if noWait {
			return orderChecks(cmd, c, nodes, asJSON)
		}
		tick := time.NewTicker(checkPoll)
		defer tick.Stop()
		k := &checker{cluster: c, ticks: tick.C, errs: cmd.ErrOrStderr(), now: now}
		return k.run(cmd.Context(), cmd.OutOrStdout(), nodes, asJSON)
	}
	return cmd
}

// chooseNodes finds the storage nodes that are named by id or URL, all where none is, each once.
func chooseNodes(in *wire.Integrity, names []string) ([]wire.NodeIntegrity, error) {
	if len(in.Nodes) == 0 {
		return nil, errors.New("the cluster has no storage node: start one with 'chainstore storage'")
	}
	if len(names) == 0 {
		return in.Nodes, nil
	}
	var chosen []wire.NodeIntegrity
	have := map[string]bool{}
	for _, name := range names {
		var node *wire.NodeIntegrity
		for i := range in.Nodes {
			if n := &in.Nodes[i]; n.ID == name || n.URL == strings.TrimRight(name, "/") {
				node = n
			}
		}
		if node == nil {
			return nil, fmt.Errorf("%q is neither the id nor the URL of a storage node; 'chainstore integrity' "+
				"lists them", name)
		}
		if !have[node.ID] {
			have[node.ID] = true
			chosen = append(chosen, *node)
		}
	}
	return chosen, nil
}

// checkCluster is what a checker needs of a cluster; client.Client documents it.
type checkCluster interface {
	Integrity(ctx context.Context) (wire.Integrity, error)
	CheckStorage(ctx context.Context, id string) (wire.NodeIntegrity, error)
}

// orderChecks makes the checks due and waits for none.
func orderChecks(cmd *cobra.Command, c checkCluster, nodes []wire.NodeIntegrity, asJSON bool) error {
	out := cmd.OutOrStdout()
	for i := range nodes {
		n, err := c.CheckStorage(cmd.Context(), nodes[i].ID)
		if err != nil {
			return err
		}
		switch {
		case asJSON:
			err = render.JSON(out, n)
		case !n.Live:
			_, err = fmt.Fprintf(out, "%s is not live; it is checked when it is back\n", render.Node(&n))
		default:
			_, err = fmt.Fprintf(out, "the check of %s is due\n", render.Node(&n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// How the check of a node ends.
const (
	checkValid    = "valid"    // nothing was found
	checkRepaired = "repaired" // something was found, and the node is valid again
	checkLost     = "lost"     // what is left to repair is lost on all nodes
	checkAborted  = "aborted"  // the check ended before all was looked at; it stays due
	checkNotLive  = "not-live" // the node does not answer
	checkRemoved  = "removed"  // it is no longer in the cluster
	checkStopped  = "stopped"  // the command was ended first
)

// checked is what became of the check of a node. check --json prints it.
type checked struct {
	ID     string `json:"id"`
	URL    string `json:"url"`
	Result string `json:"result"` // one of the check… constants
	State  string `json:"state"`  // of the node, at last
	Blocks uint64 `json:"blocks"` // that were checked
	Bytes  uint64 `json:"bytes"`  // of segments that were read; 0 where that is not known
	Millis uint64 `json:"millis"` // that the check took, without the repair
	// BadBlocks counts what was found; Findings are the first of it, in words; Bad is what is bad still.
	BadBlocks uint64          `json:"bad_blocks"`
	Findings  []chain.Finding `json:"findings"`
	Bad       []chain.Range   `json:"bad"`
	// Tiles and Repairs are what the story tells of it: hashes of the tree that were written again, and blocks that
	// came from other nodes.
	Tiles   []wire.Event  `json:"tiles,omitempty"`
	Repairs []wire.Event  `json:"repairs,omitempty"`
	Aborted *wire.Aborted `json:"aborted,omitempty"` // why the check ended early, where it did
}

func (c *checked) good() bool { return c.Result == checkValid || c.Result == checkRepaired }

// checker checks storage nodes, one after the other, and follows what comes of it.
type checker struct {
	cluster checkCluster
	ticks   <-chan time.Time // when to look again
	errs    io.Writer        // for progress, and what a person should know at once
	now     wire.Integrity   // the cluster when it was last looked at
}

// run checks nodes and prints what became of them. The error tells of nodes that are not valid, and of lost blocks.
func (k *checker) run(ctx context.Context, out io.Writer, nodes []wire.NodeIntegrity, asJSON bool) error {
	var all []checked
	var failed error
	for i := range nodes {
		result, err := k.check(ctx, &nodes[i])
		all = append(all, result)
		if asJSON {
			if err := render.JSON(out, result); err != nil {
				return err
			}
		}
		if failed = err; err != nil {
			break
		}
	}
	if !asJSON {
		if _, err := io.WriteString(out, checkText(all, &k.now, render.Width(out))); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return errors.New("stopped; what was ordered goes on, and 'chainstore integrity' shows how")
	}
	if failed != nil {
		return failed
	}
	var wrong []string
	bad, aborted := 0, 0
	for i := range all {
		switch {
		case all[i].Result == checkAborted:
			aborted++
		case !all[i].good():
			bad++
		}
	}
	if bad > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %s not valid", bad, render.Count(len(all), "checked node")))
	}
	if aborted > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %s could not be checked to the end; the check stays due",
			aborted, render.Count(len(all), "node")))
	}
	if lost := render.Unconfirmed(&k.now); len(lost) > 0 {
		wrong = append(wrong, "lost: "+render.Ranges(lost))
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// check orders the check of a node and waits for its end and that of the repair. The result is there on an error too.
func (k *checker) check(ctx context.Context, node *wire.NodeIntegrity) (checked, error) {
	f := newFollower(&k.now, node)
	bar := render.NewTaskBar(k.errs)
	defer bar.Done()
	begun := time.Now()
	ordered, err := k.cluster.CheckStorage(ctx, node.ID)
	if err != nil {
		return f.result, fmt.Errorf("check of %s: %w", render.Node(node), err)
	}
	f.before, f.aborted = max(f.before, ordered.Checked), ordered.Aborted
	for {
		now, err := k.cluster.Integrity(ctx)
		if err != nil {
			return f.result, fmt.Errorf("check of %s: %w", render.Node(node), err)
		}
		k.now = now
		note, ended := f.look(&now)
		if note != "" {
			bar.Done()
			fmt.Fprintf(k.errs, "%s %s\n", render.Node(node), note)
		}
		if ended {
			if f.result.Millis == 0 && f.checked {
				f.result.Millis = uint64(time.Since(begun).Milliseconds())
			}
			return f.result, nil
		}
		bar.Show(&f.node)
		select {
		case <-ctx.Done():
			return f.result, ctx.Err()
		case <-k.ticks:
		}
	}
}

// Counts of looks in a row.
const (
	looksDead  = 25 // a node that was live is given up as not live: the next leader does not know at once who lives
	looksStuck = 5  // only lost blocks are left to repair: no repair has begun by then
	looksIdle  = 10 // nothing is under way: say why
)

// follower follows the check of one node, and its repair, from look to look.
type follower struct {
	before  uint64             // when the node was last checked before
	aborted *wire.Aborted      // how that check ended, where it ended early
	events  uint64             // number of the first event that is new
	totals  wire.Totals        // before the check
	node    wire.NodeIntegrity // at the last look
	result  checked

	checked, told     bool // the check has ended; what it found was told
	looked            bool
	dead, stuck, idle int // looks in a row
}

func newFollower(in *wire.Integrity, node *wire.NodeIntegrity) *follower {
	f := &follower{before: node.Checked, aborted: node.Aborted, totals: in.Totals, node: *node}
	for i := range in.Nodes {
		if n := &in.Nodes[i]; n.ID == node.ID {
			f.before, f.aborted = n.Checked, n.Aborted
		}
	}
	for i := range in.Events {
		f.events = max(f.events, in.Events[i].Number+1)
	}
	f.result = checked{
		ID: node.ID, URL: node.URL, Result: checkStopped, State: node.State,
		Findings: []chain.Finding{}, Bad: []chain.Range{},
	}
	return f
}

// look takes in how the cluster stands. note is what a person should know now, said of the node, "" for nothing.
func (f *follower) look(in *wire.Integrity) (note string, ended bool) {
	var n *wire.NodeIntegrity
	for i := range in.Nodes {
		if in.Nodes[i].ID == f.result.ID {
			n = &in.Nodes[i]
		}
	}
	if n == nil {
		f.result.Result = checkRemoved
		return "is no longer in the cluster", true
	}
	f.take(in, n)
	first := !f.looked
	f.looked = true
	if !f.checked && n.Checked > f.before && n.Due == "" && n.State != stateValidating {
		f.checked = true
		f.measure(in, n)
	}
	whole := n.State == stateValid || n.State == stateSending
	switch f.count(in, n); {
	case n.Aborted != nil && (f.aborted == nil || *n.Aborted != *f.aborted):
		f.result.Result, f.result.Aborted = checkAborted, n.Aborted
		f.result.Blocks, f.result.Bytes = n.Aborted.Blocks, 0
		return render.Aborted(n.Aborted), true
	case f.checked && n.Due == "" && whole:
		f.result.Result = checkValid
		if f.told || f.result.BadBlocks > 0 || len(f.result.Findings) > 0 || len(f.result.Repairs) > 0 {
			f.result.Result = checkRepaired
		}
		return "", true
	case f.stuck == looksStuck:
		f.result.Result = checkLost
		return "has nothing left to repair but lost blocks: " + render.Ranges(n.Bad), true
	case f.dead > looksDead, f.dead > 0 && first:
		f.result.Result = checkNotLive
		return "is not live; it is checked when it is back", true
	case f.checked && !whole && !f.told:
		f.told = true
		return foundNote(n), false
	case f.idle == looksIdle:
		return waitNote(in, n), false
	}
	return "", false
}

// take notes what a look tells.
func (f *follower) take(in *wire.Integrity, n *wire.NodeIntegrity) {
	f.node = *n
	r := &f.result
	r.State, r.Bad = n.State, append([]chain.Range{}, n.Bad...)
	if t := n.Task; t != nil && t.Kind == wire.TaskCheck {
		r.Blocks, r.Bytes, r.Millis = t.Height, max(t.Total, t.Bytes), t.Millis
	}
	r.Findings, r.Tiles, r.Repairs, r.BadBlocks = []chain.Finding{}, nil, nil, 0
	for i := len(in.Events) - 1; i >= 0; i-- { // the newest is the first
		e := &in.Events[i]
		if e.Number < f.events || e.Node != n.ID {
			continue
		}
		switch e.Kind {
		case wire.EventFinding:
			r.BadBlocks += e.Blocks
			r.Findings = append(r.Findings, e.Findings...)
			r.Bytes, r.Millis = e.Bytes, e.Millis
		case wire.EventTiles:
			r.Tiles = append(r.Tiles, *e)
		case wire.EventRepair:
			r.Repairs = append(r.Repairs, *e)
		}
	}
}

// measure notes how much a check that has just ended was, where it was over before a look could catch it.
func (f *follower) measure(in *wire.Integrity, n *wire.NodeIntegrity) {
	if f.result.Blocks == 0 {
		f.result.Blocks = n.Height
	}
	if in.Totals.Checks == f.totals.Checks+1 { // no other node's check is in the difference
		f.result.Bytes = in.Totals.CheckedBytes - f.totals.CheckedBytes
	}
}

// count counts looks in a row at which the node is dead, has only lost blocks left to repair, or has nothing under way.
func (f *follower) count(in *wire.Integrity, n *wire.NodeIntegrity) {
	next := func(count *int, holds bool) {
		if *count++; !holds {
			*count = 0
		}
	}
	next(&f.dead, !n.Live)
	next(&f.stuck, n.State == stateInvalid && n.Task == nil && len(n.Bad) > 0 &&
		len(chain.CutRanges(n.Bad, in.Lost)) == 0)
	next(&f.idle, n.Task == nil)
}

// foundNote says that a check has found something.
func foundNote(n *wire.NodeIntegrity) string {
	found := "it is " + n.State
	if n.Cause != "" {
		found = render.Plain(n.Cause)
	}
	if len(n.Bad) > 0 {
		found = "bad: " + render.Ranges(n.Bad)
	}
	return "was checked; " + found + "; it is now repaired from another storage node"
}

// waitNote says why nothing is under way for a node.
func waitNote(in *wire.Integrity, n *wire.NodeIntegrity) string {
	if n.State == stateInvalid || n.State == stateReceiving {
		return fmt.Sprintf("waits to be repaired (%s); Ctrl-C ends the wait only", render.Plain(n.Cause))
	}
	for i := range in.Nodes {
		if o := &in.Nodes[i]; o.ID != n.ID && o.State == stateValidating {
			return "waits for the check of " + render.Node(o) + "; Ctrl-C ends the wait only"
		}
	}
	valid := 0
	for i := range in.Nodes {
		if in.Nodes[i].State == stateValid {
			valid++
		}
	}
	if n.State == stateValid && valid == 1 && len(in.Nodes) > 1 {
		return "waits: it is the only valid storage node now, and is not checked before another one is; Ctrl-C ends " +
			"the wait only"
	}
	return "waits for its check to begin; Ctrl-C ends the wait only"
}
