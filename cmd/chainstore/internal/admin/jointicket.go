package admin

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewMasterTicket is the parent of the commands on join tickets.
func NewMasterTicket() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "ticket",
		Short: "Create, list and revoke the tickets with which new masters join",
		Long: `Create, list and revoke join tickets. A new master joins a group with a ticket, which admits one master
and expires. The master reads it from the file of --join-ticket-file.`,
	}, newTicketCreateCommand(), newTicketListCommand(), newTicketRevokeCommand())
}

func newTicketCreateCommand() *cobra.Command {
	var t wire.NewJoinTicket
	valid := wire.DefaultTicketSeconds * time.Second
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "create",
		Short: "Create a join ticket and print it, which is shown only once",
		Long: `Create a join ticket and print it, which is shown only once. It admits one new master. The command needs
an admin token with the role admin.`,
		Example: `  chainstore master ticket create --name master-4
  (umask 077; chainstore master ticket create --valid-for 1h --json | jq -r .ticket > join.ticket)`,
		Args: cobra.NoArgs,
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object"}, func(c *cli.Call) error {
		if valid < time.Second || valid > wire.MaxTicketSeconds*time.Second {
			return fmt.Errorf("--valid-for %v is not within 1s and %v", valid, wire.MaxTicketSeconds*time.Second)
		}
		seconds := uint64(valid / time.Second)
		t.ValidSeconds = &seconds
		created, err := c.CreateJoinTicket(c.Ctx, t)
		if err != nil {
			return err
		}
		err = c.Print(created, render.Table(
			render.Row{"id", created.ID}, render.Row{"name", created.Name},
			render.Row{"expires", render.LocalTime(created.Expires)}, render.Row{"ticket", created.Ticket}))
		if err == nil && !c.JSON {
			_, err = fmt.Fprintln(c.Cmd.ErrOrStderr(), "The ticket is shown only once: keep it.")
		}
		return err
	})
	cmd.Flags().StringVar(&t.Name, "name", "", "`text` that says what the ticket is for, at most 64 bytes")
	cmd.Flags().DurationVar(&valid, "valid-for", valid, "time until it expires")
	cli.NoFiles(cmd, "name", "valid-for")
	return cmd
}

func newTicketListCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List the join tickets, without their secrets",
		Args:  cobra.NoArgs,
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object a line for each ticket"}, func(c *cli.Call) error {
		tickets, err := c.JoinTickets(c.Ctx)
		if err != nil {
			return err
		}
		titles := render.Row{"ID", "NAME", "BY", "CREATED", "EXPIRES", "STATE", "MASTER"}
		rows := render.Rows(titles, tickets, func(t *wire.JoinTicket) render.Row {
			return render.Row{
				t.ID, t.Name, t.By, render.LocalTime(t.Created), render.LocalTime(t.Expires), t.State, t.Member,
			}
		})
		return cli.PrintList(c, tickets, render.Fit(render.Width(c.Out), []int{1, 2}, rows...))
	})
}

func newTicketRevokeCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke a join ticket; a master that it has admitted stays",
		Args:  cli.ExactArgs("one ticket", ": 'chainstore master ticket list' lists them"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		id, err := strconv.ParseUint(c.Args[0], 10, 32)
		if err != nil {
			return errors.New("a ticket is named by its id, a number that 'chainstore master ticket list' prints")
		}
		if err := c.RevokeJoinTicket(c.Ctx, uint32(id)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "join ticket %d is revoked\n", id)
		return err
	})
}
