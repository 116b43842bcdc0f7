package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// States of a storage node in [wire.NodeIntegrity].
const (
	stateValid      = string(masterfsm.Valid)
	stateValidating = string(masterfsm.Validating)
	stateInvalid    = string(masterfsm.Invalid)
	stateSending    = string(masterfsm.Sending)
	stateReceiving  = string(masterfsm.Receiving)
)

// checkPoll is the time between two requests for the state of a running check.
const checkPoll = 200 * time.Millisecond

// NewCheck makes storage nodes check their chains.
func NewCheck() *cobra.Command {
	var noWait bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "check [ID|URL]...",
		Short: "Make storage nodes check their whole chain, and wait for the results",
		Long: `Make storage nodes check their whole chain. A check reads every payload from disk and hashes it again,
and verifies every block against the block before it, the tree and its proof of work. Name nodes by their ids or URLs.
Without a name all nodes are checked, one after the other. The command needs the admin token.

If bad blocks are found, the cluster repairs the node from another one, and the command waits until the node is valid
again. Ctrl-C ends the command, but not the check or the repair.

A check that ends early does not count: the result is "aborted" with the reason, the check stays due, and the cluster
tries it again.

The exit status is 1 if a node is not valid in the end, if a check could not be completed, or if blocks are lost and
the loss is not confirmed.`,
		Example: "  chainstore check\n  chainstore check http://127.0.0.1:8082",
		Args:    cobra.ArbitraryArgs,
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object a line for each node"}, func(c *cli.Call) error {
		now, err := c.Integrity(c.Ctx)
		if err != nil {
			return err
		}
		nodes, err := chooseNodes(&now, c.Args)
		if err != nil {
			return err
		}
		if noWait {
			return orderChecks(c, nodes)
		}
		tick := time.NewTicker(checkPoll)
		defer tick.Stop()
		k := &checker{cluster: c, ticks: tick.C, errs: c.Cmd.ErrOrStderr(), now: now}
		return k.run(c.Ctx, c.Out, nodes, c.JSON)
	})
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "order the checks and do not wait for them")
	return cmd
}

// chooseNodes returns the storage nodes with these ids or URLs, each once, or all nodes if names is empty.
func chooseNodes(in *wire.Integrity, names []string) ([]wire.NodeIntegrity, error) {
	if len(in.Nodes) == 0 {
		return nil, errors.New("the cluster has no storage node: start one with 'chainstore storage'")
	}
	if len(names) == 0 {
		return in.Nodes, nil
	}
	var chosen []wire.NodeIntegrity
	for _, name := range names {
		at := slices.IndexFunc(in.Nodes, func(n wire.NodeIntegrity) bool {
			return n.ID == name || n.URL == strings.TrimRight(name, "/")
		})
		if at < 0 {
			return nil, fmt.Errorf("%q is neither the id nor the URL of a storage node; 'chainstore integrity' "+
				"lists them", name)
		}
		if !slices.ContainsFunc(chosen, func(n wire.NodeIntegrity) bool { return n.ID == in.Nodes[at].ID }) {
			chosen = append(chosen, in.Nodes[at])
		}
	}
	return chosen, nil
}

// checkCluster is the part of a client that a checker needs.
type checkCluster interface {
	Integrity(ctx context.Context) (wire.Integrity, error)
	CheckStorage(ctx context.Context, id string) (wire.NodeIntegrity, error)
}

// orderChecks makes the checks due and does not wait for them.
func orderChecks(c *cli.Call, nodes []wire.NodeIntegrity) error {
	for i := range nodes {
		n, err := c.CheckStorage(c.Ctx, nodes[i].ID)
		if err != nil {
			return err
		}
		text := "the check of " + render.Node(&n) + " is due\n"
		if !n.Live {
			text = render.Node(&n) + " is not live; it is checked when it is back\n"
		}
		if err := c.Print(n, text); err != nil {
			return err
		}
	}
	return nil
}

// Results of the check of a node.
const (
	checkValid    = "valid"    // nothing was found
	checkRepaired = "repaired" // something was found and repaired
	checkLost     = "lost"     // the remaining bad blocks are lost on all nodes
	checkAborted  = "aborted"  // the check ended early; it stays due
	checkNotLive  = "not-live" // the node does not answer
	checkRemoved  = "removed"  // the node is no longer in the cluster
	checkStopped  = "stopped"  // the command was ended first
)

// checked is the result of the check of a node. check --json prints it.
type checked struct {
	ID     string `json:"id"`
	URL    string `json:"url"`
	Result string `json:"result"` // one of the check… constants
	State  string `json:"state"`  // last state of the node
	Blocks uint64 `json:"blocks"` // number of checked blocks
	Bytes  uint64 `json:"bytes"`  // bytes of segments that were read; 0 if unknown
	Millis uint64 `json:"millis"` // duration of the check, without the repair
	// BadBlocks counts the bad blocks that were found, Findings describe the first of them, and Bad are those still
	// bad.
	BadBlocks uint64         `json:"bad_blocks"`
	Findings  []wire.Finding `json:"findings"`
	Bad       []chain.Range  `json:"bad"`
	// Tiles and Repairs are events of the integrity log: tree hashes that were rewritten, and blocks that were copied
	// from other nodes.
	Tiles   []wire.Event  `json:"tiles,omitempty"`
	Repairs []wire.Event  `json:"repairs,omitempty"`
	Aborted *wire.Aborted `json:"aborted,omitempty"` // why the check ended early, nil if it did not
}

func (c *checked) good() bool { return c.Result == checkValid || c.Result == checkRepaired }

// checker checks storage nodes, one after the other, and follows their checks and repairs.
type checker struct {
	cluster checkCluster
	ticks   <-chan time.Time // when to request the state again
	errs    io.Writer        // progress and notes
	now     wire.Integrity   // the last state of the cluster
}

// run checks nodes and prints the results. It returns an error if nodes are not valid or blocks are lost.
func (k *checker) run(ctx context.Context, out io.Writer, nodes []wire.NodeIntegrity, asJSON bool) error {
	var all []checked
	var failed error
	bad, aborted := 0, 0
	for i := 0; i < len(nodes) && failed == nil; i++ {
		var result checked
		result, failed = k.check(ctx, &nodes[i])
		all = append(all, result)
		switch {
		case result.Result == checkAborted:
			aborted++
		case !result.good():
			bad++
		}
		if err := render.Print(out, asJSON, result, ""); err != nil {
			return err
		}
	}
	if !asJSON {
		if _, err := io.WriteString(out, checkText(all, &k.now, render.Width(out))); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return errors.New("stopped; ordered checks continue, and 'chainstore integrity' shows their progress")
	}
	if failed != nil {
		return failed
	}
	var wrong []string
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

// check orders the check of a node and waits for the check and the repair to end. The result is valid on an error too.
func (k *checker) check(ctx context.Context, node *wire.NodeIntegrity) (checked, error) {
	f := newFollower(&k.now, node)
	bar := render.NewBar(k.errs, "", "")
	defer bar.Done()
	start := time.Now()
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
		note, ended := f.observe(&now)
		if note != "" {
			bar.Done()
			fmt.Fprintf(k.errs, "%s %s\n", render.Node(node), note)
		}
		if ended {
			if f.result.Millis == 0 && f.checked {
				f.result.Millis = uint64(time.Since(start).Milliseconds())
			}
			return f.result, nil
		}
		bar.SetTask(&f.node)
		select {
		case <-ctx.Done():
			return f.result, ctx.Err()
		case <-k.ticks:
		}
	}
}

// Limits on consecutive observations of a node.
const (
	maxDead  = 25 // not live: give up; a new leader does not know at once which nodes are live
	maxStuck = 5  // only lost blocks are left, and no repair has begun: the result is lost
	maxIdle  = 10 // no task is running: print the reason
)

// follower follows the check and the repair of one node over successive observations.
type follower struct {
	before  uint64             // time of the check before this one
	aborted *wire.Aborted      // why that check ended early, nil if it did not
	events  uint64             // number of the first new event
	totals  wire.Totals        // totals before the check
	node    wire.NodeIntegrity // last observation of the node
	result  checked

	checked, noted    bool // the check has ended; what it found was printed
	observed          bool // at least once
	dead, stuck, idle int  // consecutive observations
}

func newFollower(in *wire.Integrity, node *wire.NodeIntegrity) *follower {
	f := &follower{before: node.Checked, totals: in.Totals, node: *node, result: checked{
		ID: node.ID, URL: node.URL, Result: checkStopped, State: node.State,
		Findings: []wire.Finding{}, Bad: []chain.Range{},
	}}
	for i := range in.Events {
		f.events = max(f.events, in.Events[i].Number+1)
	}
	return f
}

// observe processes a state of the cluster. note is a message about the node, "" for none.
func (f *follower) observe(in *wire.Integrity) (note string, ended bool) {
	at := slices.IndexFunc(in.Nodes, func(n wire.NodeIntegrity) bool { return n.ID == f.result.ID })
	if at < 0 {
		f.result.Result = checkRemoved
		return "is no longer in the cluster", true
	}
	n := &in.Nodes[at]
	f.update(in, n)
	first := !f.observed
	f.observed = true
	if !f.checked && n.Checked > f.before && n.Due == "" && n.State != stateValidating {
		f.checked = true
		f.measure(in, n)
	}
	valid := n.State == stateValid || n.State == stateSending
	switch f.count(in, n); {
	case n.Aborted != nil && (f.aborted == nil || *n.Aborted != *f.aborted):
		f.result.Result, f.result.Aborted = checkAborted, n.Aborted
		f.result.Blocks, f.result.Bytes = n.Aborted.Blocks, 0
		return render.Aborted(n.Aborted), true
	case f.checked && n.Due == "" && valid:
		f.result.Result = checkValid
		if f.noted || f.result.BadBlocks > 0 || len(f.result.Findings) > 0 || len(f.result.Repairs) > 0 {
			f.result.Result = checkRepaired
		}
		return "", true
	case f.stuck == maxStuck:
		f.result.Result = checkLost
		return "has nothing left to repair but lost blocks: " + render.Ranges(n.Bad) +
			"; it is checked once they are back or confirmed as lost", true
	case f.dead > maxDead, f.dead > 0 && first:
		f.result.Result = checkNotLive
		return "is not live; it is checked when it is back", true
	case f.checked && !valid && !f.noted:
		f.noted = true
		return foundNote(n), false
	case f.idle == maxIdle:
		return waitNote(in, n), false
	}
	return "", false
}

// update copies the state of the node and its new events into the result.
func (f *follower) update(in *wire.Integrity, n *wire.NodeIntegrity) {
	f.node = *n
	r := &f.result
	r.State, r.Bad = n.State, append([]chain.Range{}, n.Bad...)
	if t := n.Task; t != nil && t.Kind == wire.TaskCheck {
		r.Blocks, r.Bytes, r.Millis = t.Height, max(t.Total, t.Bytes), t.Millis
	}
	r.Findings, r.Tiles, r.Repairs, r.BadBlocks = []wire.Finding{}, nil, nil, 0
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

// measure sets the size of a check that ended before it was observed as running.
func (f *follower) measure(in *wire.Integrity, n *wire.NodeIntegrity) {
	if f.result.Blocks == 0 {
		f.result.Blocks = n.Height
	}
	if in.Totals.Checks == f.totals.Checks+1 { // the difference has no check of another node
		f.result.Bytes = in.Totals.CheckedBytes - f.totals.CheckedBytes
	}
}

// count counts consecutive observations in which the node is not live, has only lost blocks to repair, or has no task.
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

// foundNote describes what a check has found.
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

// waitNote describes why no task is running for a node.
func waitNote(in *wire.Integrity, n *wire.NodeIntegrity) string {
	if n.State == stateInvalid || n.State == stateReceiving {
		return fmt.Sprintf("waits to be repaired (%s); Ctrl-C ends the wait only", render.Plain(n.Cause))
	}
	for i := range in.Nodes {
		if o := &in.Nodes[i]; o.ID != n.ID && o.State == stateValidating {
			return "waits for the check of " + render.Node(o) + "; Ctrl-C ends the wait only"
		}
	}
	otherValid := slices.ContainsFunc(in.Nodes, func(o wire.NodeIntegrity) bool {
		return o.ID != n.ID && o.State == stateValid
	})
	if n.State == stateValid && !otherValid && len(in.Nodes) > 1 {
		return "waits: it is the only valid storage node now, and is checked once another one is valid; Ctrl-C ends " +
			"the wait only"
	}
	return "waits for its check to begin; Ctrl-C ends the wait only"
}
