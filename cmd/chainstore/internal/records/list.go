package records

import (
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

const defaultListed = 50

// listing holds the flags of commands that list records.
type listing struct {
	query        client.ListQuery
	since, until string
	asJSON       bool
}

// addQuery adds the flags that select records.
func (l *listing) addQuery(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.query.Project, "project", "",
		"`name` or id of a public project (default the token's project)")
	flags.StringVar(&l.query.Key, "key", "", "only records with this `key`")
	cli.AddJSON(cmd, &l.asJSON, "print one JSON object a line for each record, in its envelope")
	cli.NoFiles(cmd, "project", "key")
}

// NewList lists records.
func NewList() *cobra.Command {
	l := &listing{}
	var limit uint64
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List records, or the history of a key",
		Long: `List records in chain order. With --key it is the history of that key.

Write times as 2006-01-02T15:04:05Z, as unix milliseconds, or as a duration before now: 90s, 15m, 24h.

Each record is verified against its hashes. The completeness of a list is not verified: a proof shows that a record is
in the chain, not that no record was left out.`,
		Example: `  chainstore list --key door/7
  chainstore list --since 1h --json
  chainstore list --from 2000 --limit 0`,
		PreRunE: func(*cobra.Command, []string) (err error) {
			now := time.Now()
			if l.query.Since, err = parseTime("since", l.since, now); err == nil {
				l.query.Until, err = parseTime("until", l.until, now)
			}
			return err
		},
	}, cli.AsProject, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		l.query.Limit = wire.MaxPage
		if limit != 0 {
			l.query.Limit = int(min(limit, wire.MaxPage))
		}
		_, err := l.print(cmd.OutOrStdout(), c.List(cmd.Context(), l.query), limit)
		return err
	})
	l.addQuery(cmd)
	flags := cmd.Flags()
	flags.StringVar(&l.since, "since", "", "only records of this `time` or later")
	flags.StringVar(&l.until, "until", "", "only records before this `time`")
	flags.Uint64Var(&l.query.From, "from", 0, "begin with this leaf `index`")
	flags.Uint64Var(&limit, "limit", defaultListed, "list at most `N` records, 0 for all")
	cli.NoFiles(cmd, "since", "until", "from", "limit")
	return cmd
}

// print prints at most limit records, or all if limit is 0. It returns the leaf index after the last one, 0 for none.
func (l *listing) print(out io.Writer, records iter.Seq2[wire.Record, error], limit uint64) (next uint64, err error) {
	table := recordTable{out: out}
	printed := uint64(0)
	for r, err := range records {
		if err != nil {
			return next, err
		}
		if l.asJSON {
			err = render.JSON(out, r)
		} else {
			err = table.print(&r)
		}
		if err != nil {
			return next, err
		}
		next = r.Index + 1
		if printed++; printed == limit {
			break
		}
	}
	return next, nil
}

// parseTime parses the time of a flag and returns unix milliseconds, 0 for "".
func parseTime(flag, text string, now time.Time) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	if ms, err := strconv.ParseUint(text, 10, 63); err == nil {
		return ms, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return uint64(max(0, now.Add(-ago).UnixMilli())), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil && at.UnixMilli() >= 0 {
		return uint64(at.UnixMilli()), nil
	}
	return 0, fmt.Errorf("--%s %q is not a time: write it like 2006-01-02T15:04:05Z, as unix milliseconds, or as a "+
		"duration before now, like 15m", flag, text)
}

// recordTable prints records in columns, one at a time.
type recordTable struct {
	out  io.Writer
	head bool
}

// Widths of the columns.
const (
	keyWidth     = 16
	payloadWidth = 40
)

func (t *recordTable) print(r *wire.Record) error {
	const format = "%-10v  %-10v  %-25v  %-*v  %-10v  %v\n"
	if !t.head {
		t.head = true
		if _, err := fmt.Fprintf(t.out, format, "INDEX", "POSITION", "TIME", keyWidth, "KEY", "SIZE",
			"PAYLOAD"); err != nil {
			return err
		}
	}
	at := fmt.Sprintf("%d/%d", r.Block, r.Offset)
	_, err := fmt.Fprintf(t.out, format, r.Index, at, render.LocalTime(r.Time), keyWidth,
		render.Elide(render.Plain(r.Key), keyWidth), render.Bytes(uint64(r.Size)), preview(r))
	return err
}

// preview returns the start of a payload that is text, or else its type.
func preview(r *wire.Record) string {
	text := string(r.Payload[:min(len(r.Payload), utf8.UTFMax*(payloadWidth+1))])
	for cut := 0; cut < utf8.UTFMax && !utf8.ValidString(text) && len(text) < len(r.Payload); cut++ {
		text = text[:len(text)-1] // the cut may have split a character
	}
	if !utf8.ValidString(text) {
		return render.Elide(render.Plain(r.Type), payloadWidth)
	}
	letters := []rune(text)
	if len(letters) > payloadWidth {
		text = string(letters[:payloadWidth-1]) + "…"
	}
	return render.Plain(text)
}
