package inspect

import (
	"fmt"
	"strings"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// checkText formats the results of checks: a table, then findings and repairs.
func checkText(all []checked, in *wire.Integrity, width int) string {
	var b strings.Builder
	titles := render.Row{"NODE", "RESULT", "BLOCKS", "SIZE", "TOOK", "FOUND"}
	rows := render.Rows(titles, all, func(r *checked) render.Row {
		blocks := render.Number(r.Blocks)
		if r.Blocks == 0 && !r.good() {
			blocks = "-"
		}
		return render.Row{render.ID(r.ID), r.Result, blocks, render.OrDash(r.Bytes, render.Bytes),
			render.OrDash(r.Millis, render.Millis), foundText(r)}
	})
	b.WriteString(render.Table(rows...))
	for i := range all {
		writeChecked(&b, &all[i], width)
	}
	render.WriteLost(&b, in, width)
	return b.String()
}

// foundText summarizes what was found.
func foundText(r *checked) string {
	switch {
	case r.BadBlocks > 0:
		return render.Count(r.BadBlocks, "bad block")
	case len(r.Findings) > 0:
		return render.Count(len(r.Findings), "finding")
	case len(r.Bad) > 0:
		return render.Ranges(r.Bad)
	case r.Aborted != nil:
		return "ended early"
	case len(r.Tiles) > 0:
		return "bad hashes of the tree"
	case r.good():
		return "nothing"
	}
	return "-"
}

// writeChecked writes the findings and repairs of a node, if there are any.
func writeChecked(b *strings.Builder, r *checked, width int) {
	var lines []string
	for _, f := range r.Findings {
		lines = append(lines, render.Finding(f))
	}
	for i := range r.Tiles {
		lines = append(lines, r.Tiles[i].Cause)
	}
	for i := range r.Repairs {
		e := &r.Repairs[i]
		text := fmt.Sprintf("repair: %s, %s", render.Count(e.Blocks, "block"), render.Bytes(e.Bytes))
		if e.Source != "" {
			text += " from " + e.Source
		}
		if text += " in " + render.Millis(e.Millis); e.Cause != "" {
			text += "; " + e.Cause
		}
		lines = append(lines, text)
	}
	if r.Aborted != nil {
		lines = append(lines, render.Aborted(r.Aborted))
	}
	if len(r.Bad) > 0 {
		lines = append(lines, "still bad: "+render.Ranges(r.Bad))
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s (%s)\n", render.Plain(r.ID), render.Plain(r.URL))
	for _, line := range lines {
		render.WriteWrapped(b, "  - ", line, width)
	}
}
