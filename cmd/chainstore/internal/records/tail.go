package records

import (
	"iter"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/wire"
)

const defaultTail = 10

// NewTail prints the newest records and follows new ones.
func NewTail() *cobra.Command {
	var query client.ListQuery
	var count uint64
	var follow bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "tail",
		Short: "Print the newest records, and follow",
		Long: `Print the newest records, the oldest of them first. With --follow it continues with new records until
it is stopped. Each record is printed exactly once, even if masters fail.`,
		Example: `  chainstore tail -f
  chainstore tail -n 0 -f --key door/7 --json`,
	}, cli.Use{JSON: recordJSON}, func(c *cli.Call) (err error) {
		q := client.StreamQuery{Project: query.Project, Key: query.Key, Now: true}
		var last []wire.Record
		if count > 0 {
			if last, err = newest(c, query, count); err != nil {
				return err
			}
			if n := len(last); n > 0 {
				q.From = last[n-1].Index + 1
			}
			q.Now = false
		}
		err = printRecords(c, func(yield func(wire.Record, error) bool) {
			for i := range last {
				if !yield(last[i], nil) {
					return
				}
			}
			if follow {
				c.Stream(c.Ctx, q)(yield)
			}
		}, 0)
		if follow && c.Ctx.Err() != nil {
			return nil // stopped by a signal
		}
		return err
	})
	addQuery(cmd, &query)
	cmd.Flags().Uint64VarP(&count, "lines", "n", defaultTail, "start with the newest `N` records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with records as they are appended")
	cli.NoFiles(cmd, "lines")
	return cmd
}

// newest reads at most count of the newest records that match a query, the oldest first. Lists go forwards, so it reads
// from the end of the chain with a growing window.
func newest(c *cli.Call, q client.ListQuery, count uint64) (last []wire.Record, err error) {
	status, err := c.Cluster(c.Ctx)
	if err != nil {
		return nil, err
	}
	q.Limit = wire.MaxPage
	for window := 4 * count; ; window *= 16 {
		q.From = status.Head.Size - min(window, status.Head.Size)
		if last, err = lastOf(c.List(c.Ctx, q), count); err != nil || uint64(len(last)) == count || q.From == 0 {
			return last, err
		}
	}
}

// lastOf returns the last records of a list.
func lastOf(records iter.Seq2[wire.Record, error], count uint64) (last []wire.Record, err error) {
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		if last = append(last, r); uint64(len(last)) > count {
			last = last[1:]
		}
	}
	return last, nil
}
