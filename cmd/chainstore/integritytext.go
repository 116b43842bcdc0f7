package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
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

// Kinds of a [wire.Task].
const (
	taskCheck   = "check"
	taskReceive = "receive"
	taskSend    = "send"
)

// integrityText shows the nodes, what is lost, the totals and the story, for people; older events are left out. No line is wider
// than width, which is at least [standardWidth], but for words that are.
func integrityText(in *wire.Integrity, older int, now time.Time, width int) string {
	var b strings.Builder
	rows := [][]string{{"NODE", "URL", "STATE", "CHECKED", "BAD", "NOW"}}
	for i := range in.Nodes {
		n := &in.Nodes[i]
		rows = append(rows, []string{
			elide(plain(n.ID), maxShownID), plain(n.URL), plain(n.State), agoText(n.Checked, now), orDash(runList(n.Bad)), nowText(n),
		})
	}
	if len(in.Nodes) == 0 {
		rows = [][]string{{"NODE", "none"}}
	} else {
		fit(rows, width, 1, 4)
	}
	_ = printRows(&b, rows) // a strings.Builder takes everything
	var remarks []string
	for i := range in.Nodes {
		n := &in.Nodes[i]
		if n.Due != "" {
			remarks = append(remarks, fmt.Sprintf("%s: a check is due: %s", n.ID, n.Due))
		}
		if a := n.Aborted; a != nil && n.DueCoded.Code != wire.CodeCheckAborted {
			remarks = append(remarks, n.ID+" "+abortedNote(a))
		}
		if n.State != stateValid && n.Cause != "" && n.Cause != n.Due {
			remarks = append(remarks, fmt.Sprintf("%s: %s: %s", n.ID, n.State, n.Cause))
		}
	}
	remarks = append(remarks, in.Notices...)
	if len(remarks) > 0 {
		b.WriteByte('\n')
		for _, remark := range remarks {
			writeWrapped(&b, "! ", remark, width)
		}
	}
	writeLost(&b, in, width)
	t := &in.Totals
	fmt.Fprintf(&b, "\nchecks   %s, %s read; found: %s, %s of the tree\n", counted(t.Checks, "check"), bytesText(t.CheckedBytes),
		counted(t.BadBlocks, "bad block"), countedAs(t.BadTiles, "bad hash", "bad hashes"))
	fmt.Fprintf(&b, "repairs  %s, %d ended early; %s sent, %s\n", counted(t.Repairs, "repair"), t.FailedRepairs,
		counted(t.RepairedBlocks, "block"), bytesText(t.RepairedBytes))
	writeStory(&b, in.Events, older, width)
	return b.String()
}

// nowText is what is under way for a node, in short.
func nowText(n *wire.NodeIntegrity) string {
	switch t := n.Task; {
	case !n.Live:
		return "not live"
	case t == nil && n.Due != "":
		return "check due"
	case t == nil:
		return "-"
	case t.Kind == taskCheck:
		return "check" + percent(t.Bytes, t.Total)
	case t.Kind == taskReceive && t.Total > 0:
		return "repair" + percent(t.Bytes, t.Total)
	case t.Kind == taskReceive:
		return "repair" + percent(t.Blocks, blocksOf(n))
	case t.Kind == taskSend:
		return "sends"
	default:
		return plain(t.Kind)
	}
}

// blocksOf is how many blocks the task of a node is about.
func blocksOf(n *wire.NodeIntegrity) uint64 {
	if n.Task.Kind == taskReceive {
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

// writeLost names the lost blocks and what to do about them.
func writeLost(b *strings.Builder, in *wire.Integrity, width int) {
	if len(in.Lost) == 0 {
		return
	}
	b.WriteByte('\n')
	if lost := unconfirmed(in); len(lost) > 0 {
		writeWrapped(b, "", fmt.Sprintf("LOST: %s. No storage node has a good copy. Bring back any storage node that is away or was taken out: it may have one.", runsText(lost)), width)
		writeWrapped(b, "", "Where none is left, say so block by block:", width)
		fmt.Fprintf(b, "  chainstore integrity confirm-lost %d\n", lost[0].From)
	}
	if confirmed := chain.CommonRanges(in.Lost, in.Confirmed); len(confirmed) > 0 {
		writeWrapped(b, "", fmt.Sprintf("Lost, and confirmed: %s.", runsText(confirmed)), width)
	}
}

// writeStory writes the events, each with its text below it.
func writeStory(b *strings.Builder, events []wire.Event, older, width int) {
	b.WriteByte('\n')
	rows := [][]string{{"TIME", "NODE", "WHAT", "BLOCKS", "BYTES", "TOOK"}}
	for i := range events {
		e := &events[i]
		took, size, blocks := "-", "-", "-"
		if e.Millis > 0 {
			took = millisText(e.Millis)
		}
		if e.Bytes > 0 {
			size = bytesText(e.Bytes)
		}
		if e.Blocks > 0 {
			blocks = strconv.FormatUint(e.Blocks, 10)
		}
		rows = append(rows, []string{
			time.UnixMilli(int64(e.Time)).Format(time.DateTime), orDash(elide(plain(e.Node), maxShownID)), plain(e.Kind), blocks, size, took,
		})
	}
	if len(events) == 0 {
		b.WriteString("nothing was found yet\n")
		return
	}
	var table strings.Builder
	_ = printRows(&table, rows) // a strings.Builder takes everything
	row := 0
	for line := range strings.Lines(table.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
		if row > 0 {
			writeEvent(b, &events[row-1], width)
		}
		row++
	}
	if older > 0 {
		fmt.Fprintf(b, "%s before that; --limit 0 shows all\n", counted(older, "event"))
	}
}

// writeEvent writes what an event says in words.
func writeEvent(b *strings.Builder, e *wire.Event, width int) {
	var texts []string
	if e.Kind == wire.EventRepair && e.Source != "" {
		texts = append(texts, "from "+e.Source)
	}
	if e.Kind == wire.EventRepair && len(e.Ranges) > 0 { // of other kinds the cause names the blocks
		texts = append(texts, runsText(e.Ranges))
	}
	if e.Cause != "" {
		texts = append(texts, e.Cause)
	}
	if len(texts) > 0 {
		writeWrapped(b, "  ", strings.Join(texts, "; "), width)
	}
	for _, f := range e.Findings {
		writeWrapped(b, "  - ", findingText(f), width)
	}
}

// findingText is a finding in full words.
func findingText(f chain.Finding) string {
	wrong := f.What
	switch f.What {
	case chain.WrongFile: // its block says no more than the name of the file in the detail
		return "something else stood in the place of a file (" + f.What + "): " + f.Detail
	case chain.WrongFrame:
		wrong = "its frame is damaged"
	case chain.WrongPayload:
		wrong = "a record does not fit its leaf"
	case chain.WrongRoot:
		wrong = "its records do not hash to its root"
	case chain.WrongLink:
		wrong = "it does not follow from the block before"
	case chain.WrongWork:
		wrong = "its proof of work is too little"
	case chain.WrongMissing:
		wrong = "it is missing"
	case chain.WrongShort:
		wrong = "the chain ends before it"
	case chain.WrongChain:
		wrong = "from here on it is another chain"
	}
	text := fmt.Sprintf("block %d: %s (%s)", f.Block, wrong, f.What)
	if f.Detail != "" {
		text += ": " + f.Detail
	}
	return text
}

// writeWrapped writes a text from elsewhere below a mark, in lines of at most width letters.
func writeWrapped(b *strings.Builder, mark, text string, width int) {
	for _, line := range wrap(plain(text), width-len(mark)) {
		b.WriteString(mark + line + "\n")
		mark = strings.Repeat(" ", len(mark))
	}
}

// runList is "7, 9-12", "" for no block.
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

// runsText is "1 block: 7" or "4 blocks: 9-12".
func runsText(list []chain.Range) string {
	return counted(chain.CountBlocks(list), "block") + ": " + runList(list)
}

// nodeName names a storage node in a sentence.
func nodeName(n *wire.NodeIntegrity) string { return plain(n.ID + " (" + n.URL + ")") }

// agoText is how long a time of the cluster, unix milliseconds, is past; clocks may differ a little.
func agoText(ms uint64, now time.Time) string {
	if ms == 0 {
		return "never"
	}
	d := max(0, now.Sub(time.UnixMilli(int64(ms))))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

// millisText is a time that something took.
func millisText(ms uint64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Second:
		return d.String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// countedAs is counted for a noun whose plural is not that with an s.
func countedAs(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
