package records

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewStream is the parent of the commands on append streams.
func NewStream() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "stream",
		Short: "List and remove append streams",
	}, newStreamListCommand(), newStreamRemoveCommand())
}

func newStreamListCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List the append streams of the project",
		Long: `List the append streams of the token's project: the id, who has chosen it (named: a client, unnamed: a
master), the number of the newest record, and the time of the last use. The token needs the right to append.

A project has 64 named streams, which are not forgotten before they were idle for 7 days, and 1,024 others, which make
room for new ones after a minute.`,
	}, cli.Use{JSON: "print one JSON object a line for each stream"}, func(c *cli.Call) error {
		var all []wire.ListedStream
		for cursor, more := "", true; more; {
			page, err := c.AppendStreams(c.Ctx, cursor, wire.MaxPage)
			if err != nil {
				return err
			}
			if err := cli.PrintList(c, page.Streams, ""); err != nil { // with --json a page at a time
				return err
			}
			all = append(all, page.Streams...)
			cursor, more = page.Next, page.Next != ""
		}
		titles := render.Row{"ID", "KIND", "LAST", "IDLE SINCE"}
		rows := render.Rows(titles, all, func(s *wire.ListedStream) render.Row {
			return render.Row{s.Stream, string(s.Kind), s.Last, render.LocalTime(s.IdleSince)}
		})
		return cli.PrintList[wire.ListedStream](c, nil, render.Fit(render.Width(c.Out), []int{0}, rows...))
	})
}

func newStreamRemoveCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "remove ID",
		Short: "Make the cluster forget an append stream",
		Long: `Make the cluster forget an append stream of the token's project, so that there is room for another. Its
records stay. The token needs the right to append.

End all commands that use the stream first. With a forgotten name, 'chainstore append --lines --stream' appends
everything again.`,
		Example: "  chainstore stream remove import-7",
		Args:    cli.ExactArgs("one append stream", "; 'chainstore stream list' lists them"),
	}, cli.Use{}, func(c *cli.Call) error {
		err := c.RemoveAppendStream(c.Ctx, c.Args[0])
		switch {
		case errors.Is(err, wire.ErrUnknownStream):
			return fmt.Errorf("%w: 'chainstore stream list' lists the streams", err)
		case err != nil:
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s is removed; its records stay\n", c.Args[0])
		return err
	})
}
