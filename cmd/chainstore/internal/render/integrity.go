package render

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Integrity formats the nodes, the lost blocks, the totals and the events. older is the number of events left out. No
// line is wider than width, which is at least [StandardWidth], except for longer words.
func Integrity(in *wire.Integrity, older int, now time.Time, width int) string {
	var b strings.Builder
	nodes := Rows(Row{"NODE", "URL", "STATE", "CHECKED", "BAD", "NOW"}, in.Nodes, func(n *wire.NodeIntegrity) Row {
		return Row{ID(n.ID), n.URL, n.State, Ago(n.Checked, now), cmp.Or(runList(n.Bad), "-"), nowText(n)}
	})
	b.WriteString(FitOrNone(width, []int{1, 4}, nodes...))
	var remarks []string
	for i := range in.Nodes {
		n := &in.Nodes[i]
		// An older leader sends the reason as text only, which may repeat why the check ended early.
		if n.Due != "" && (n.Aborted == nil || n.DueCoded.Code != "") {
			when := ""
			if n.State == string(masterfsm.Invalid) {
				when = " once the node is valid again" // see masterfsm's transitions
			}
			remarks = append(remarks, fmt.Sprintf("%s: a check is due%s: %s", n.ID, when, n.Due))
		}
		if a := n.Aborted; a != nil && n.DueCoded.Code != wire.CodeCheckAborted {
			remarks = append(remarks, n.ID+" "+Aborted(a))
		}
		if n.State != string(masterfsm.Valid) && n.Cause != "" && n.Cause != n.Due {
			remarks = append(remarks, fmt.Sprintf("%s: %s: %s", n.ID, n.State, n.Cause))
		}
	}
	remarks = append(remarks, in.Notices...)
	if len(remarks) > 0 {
		b.WriteByte('\n')
	}
	for _, remark := range remarks {
		WriteWrapped(&b, "! ", remark, width)
	}
	WriteLost(&b, in, width)
	t := &in.Totals
	fmt.Fprintf(&b, "\nchecks   %s, %s read; found: %s, %s of the tree\n", Count(t.Checks, "check"),
		Bytes(t.CheckedBytes), Count(t.BadBlocks, "bad block"), Count(t.BadTiles, "bad hash", "bad hashes"))
	fmt.Fprintf(&b, "repairs  %s, %d ended early; %s sent, %s\n", Count(t.Repairs, "repair"), t.FailedRepairs,
		Count(t.RepairedBlocks, "block"), Bytes(t.RepairedBytes))
	writeEvents(&b, in.Events, older, width)
	return b.String()
}

// nowText summarizes the running task of a node.
func nowText(n *wire.NodeIntegrity) string {
	switch t := n.Task; {
	case !n.Live:
		return "not live"
	case t == nil && n.Due != "" && n.State == string(masterfsm.Invalid):
		return "check later"
	case t == nil && n.Due != "":
		return "check due"
	case t == nil:
		return "-"
	case t.Kind == wire.TaskCheck:
		return "check" + percent(t.Bytes, t.Total)
	case t.Kind == wire.TaskReceive && t.Total > 0:
		return "repair" + percent(t.Bytes, t.Total)
	case t.Kind == wire.TaskReceive:
		return "repair" + percent(t.Blocks, TaskBlocks(n))
	case t.Kind == wire.TaskSend:
		return "sends"
	default:
		return Plain(t.Kind)
	}
}

// TaskBlocks returns the number of blocks that the task of a node covers.
func TaskBlocks(n *wire.NodeIntegrity) uint64 {
	if n.Task.Kind == wire.TaskReceive {
		return chain.CountBlocks(chain.AddRange(n.Bad, chain.Range{From: n.Height, To: n.Task.Height}))
	}
	return n.Task.Height
}

func percent(done, total uint64) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf(" %.0f%%", 100*min(1, float64(done)/float64(total)))
}

// WriteLost writes the lost blocks and what to do about them.
func WriteLost(b *strings.Builder, in *wire.Integrity, width int) {
	if len(in.Lost) == 0 {
		return
	}
	b.WriteByte('\n')
	if lost := Unconfirmed(in); len(lost) > 0 {
		WriteWrapped(b, "", fmt.Sprintf("LOST: %s. No storage node has a good copy. Bring back any storage node "+
			"that is offline or was removed: it may have one.", Ranges(lost)), width)
		WriteWrapped(b, "", "If there is none, confirm each lost block:", width)
		fmt.Fprintf(b, "  chainstore integrity confirm-lost %d\n", lost[0].From)
	}
	if confirmed := chain.CommonRanges(in.Lost, in.Confirmed); len(confirmed) > 0 {
		WriteWrapped(b, "", fmt.Sprintf("Lost, and confirmed: %s.", Ranges(confirmed)), width)
	}
}

// writeEvents writes the events, each with its text below it.
func writeEvents(b *strings.Builder, events []wire.Event, older, width int) {
	b.WriteByte('\n')
	if len(events) == 0 {
		b.WriteString("nothing was found yet\n")
		return
	}
	lines := tableLines(0, nil, Rows(Row{"TIME", "NODE", "WHAT", "BLOCKS", "BYTES", "TOOK"}, events,
		func(e *wire.Event) Row {
			return Row{
				time.UnixMilli(int64(e.Time)).Format(time.DateTime), cmp.Or(ID(e.Node), "-"), e.Kind,
				OrDash(e.Blocks, Number), OrDash(e.Bytes, Bytes), OrDash(e.Millis, Millis),
			}
		}))
	b.WriteString(lines[0])
	for i := range events {
		b.WriteString(lines[i+1])
		writeEvent(b, &events[i], width)
	}
	if older > 0 {
		fmt.Fprintf(b, "%s before that; --limit 0 shows all\n", Count(older, "event"))
	}
}

// writeEvent writes the text of an event.
func writeEvent(b *strings.Builder, e *wire.Event, width int) {
	var texts []string
	if e.Kind == wire.EventRepair && e.Source != "" {
		texts = append(texts, "from "+e.Source)
	}
	if e.Kind == wire.EventRepair && len(e.Ranges) > 0 { // for other kinds the cause names the blocks
		texts = append(texts, Ranges(e.Ranges))
	}
	if e.Cause != "" {
		texts = append(texts, e.Cause)
	}
	if len(texts) > 0 {
		WriteWrapped(b, "  ", strings.Join(texts, "; "), width)
	}
	for _, f := range e.Findings {
		WriteWrapped(b, "  - ", Finding(f), width)
	}
}

// findings has the text of each kind of finding.
var findings = map[string]string{
	chain.WrongFrame:   "its frame is damaged",
	chain.WrongPayload: "a record does not match its leaf",
	chain.WrongRoot:    "its records do not hash to its root",
	chain.WrongLink:    "it does not follow from the block before",
	chain.WrongWork:    "its proof of work is insufficient",
	chain.WrongMissing: "it is missing",
	chain.WrongShort:   "the chain ends before it",
	chain.WrongChain:   "from here on the chain is a different one",
}

// Finding formats a finding as a sentence.
func Finding(f wire.Finding) string {
	if f.What == chain.WrongFile { // the detail names the file, so the block is left out
		return "something else stood in the place of a file (" + f.What + "): " + f.Detail
	}
	text := fmt.Sprintf("block %d: %s (%s)", f.Block, cmp.Or(findings[f.What], f.What), f.What)
	if f.Detail != "" {
		text += ": " + f.Detail
	}
	return text
}

// runList formats ranges like "7, 9-12", "" for none.
func runList(list []chain.Range) string {
	const most = 6
	var parts []string
	for i, r := range list {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more", len(list)-most))
			break
		}
		if r.Len() == 1 {
			parts = append(parts, strconv.FormatUint(r.From, 10))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.From, r.To-1))
		}
	}
	return strings.Join(parts, ", ")
}

// Ranges formats ranges like "1 block: 7" or "4 blocks: 9-12".
func Ranges(list []chain.Range) string {
	return Count(chain.CountBlocks(list), "block") + ": " + runList(list)
}

// Node names a storage node in a sentence.
func Node(n *wire.NodeIntegrity) string { return Plain(n.ID + " (" + n.URL + ")") }

// Aborted describes a check that ended early.
func Aborted(a *wire.Aborted) string {
	const text = "could not be checked to the end: it ended after %d of %s: %s; the check stays due and is tried again"
	return Plain(fmt.Sprintf(text, a.Blocks, Count(a.Height, "block"), a.Error))
}

// Unconfirmed returns the lost blocks that no operator has confirmed.
func Unconfirmed(in *wire.Integrity) []chain.Range { return chain.CutRanges(in.Lost, in.Confirmed) }
