package records

import (
	"fmt"
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

// recordJSON is the usage of --json.
const recordJSON = "print one JSON object a line for each record, in its envelope"

// addQuery adds the flags that select records.
func addQuery(cmd *cobra.Command, query *client.ListQuery) {
	flags := cmd.Flags()
	flags.StringVar(&query.Project, "project", "", "`name` or id of a public project (default the token's project)")
	flags.StringVar(&query.Key, "key", "", "only records with this `key`")
	cli.NoFiles(cmd, "project", "key")
}

// NewList lists records.
func NewList() *cobra.Command {
	var query client.ListQuery
	var since, until string
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
			if query.Since, err = parseTime("since", since, now); err == nil {
				query.Until, err = parseTime("until", until, now)
			}
			return err
		},
	}, cli.Use{JSON: recordJSON}, func(c *cli.Call) error {
		query.Limit = wire.MaxPage
		if limit != 0 {
			query.Limit = int(min(limit, wire.MaxPage))
		}
		return printRecords(c, c.List(c.Ctx, query), limit)
	})
	addQuery(cmd, &query)
	flags := cmd.Flags()
	flags.StringVar(&since, "since", "", "only records of this `time` or later")
	flags.StringVar(&until, "until", "", "only records before this `time`")
	flags.Uint64Var(&query.From, "from", 0, "begin with this leaf `index`")
	flags.Uint64Var(&limit, "limit", defaultListed, "list at most `N` records, 0 for all")
	cli.NoFiles(cmd, "since", "until", "from", "limit")
	return cmd
}

// printRecords prints at most limit records, or all if limit is 0.
func printRecords(c *cli.Call, records iter.Seq2[wire.Record, error], limit uint64) error {
	printed := uint64(0)
	for r, err := range records {
		if err != nil {
			return err
		}
		text := recordText(&r)
		if printed == 0 {
			text = recordTitles + text
		}
		if err := c.Print(r, text); err != nil {
			return err
		}
		if printed++; printed == limit {
			break
		}
	}
	return nil
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

// Widths of the columns.
const (
	keyWidth     = 16
	payloadWidth = 40
)

const recordFormat = "%-10v  %-10v  %-25v  %-16v  %-10v  %v\n"

// recordTitles names the columns of recordText.
var recordTitles = fmt.Sprintf(recordFormat, "INDEX", "POSITION", "TIME", "KEY", "SIZE", "PAYLOAD")

// recordText formats a record as one line of columns.
func recordText(r *wire.Record) string {
	return fmt.Sprintf(recordFormat, r.Index, fmt.Sprintf("%d/%d", r.Block, r.Offset), render.LocalTime(r.Time),
		render.Elide(render.Plain(r.Key), keyWidth), render.Bytes(uint64(r.Size)), preview(r))
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
