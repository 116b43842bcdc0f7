package admin

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// newProjectTokenCommand is the parent of the commands on the tokens of a project.
func newProjectTokenCommand() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "token",
		Short: "Create, list and revoke the tokens of a project",
		Long: `Create, list and revoke the tokens of a project. The command needs the admin token. After a recovery
of the masters from storage nodes, projects have no tokens: create new ones.`,
	}, newTokenCreateCommand(), newTokenListCommand(), newTokenRevokeCommand())
}

func newTokenCreateCommand() *cobra.Command {
	var t wire.NewToken
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "create NAME|ID",
		Short: "Create a token for a project and print it, which is shown only once",
		Example: `  chainstore project token create sensors --label gateway-7 --rights append
  chainstore project token create sensors --label dashboard --rights read --json | jq -r .token > dashboard.token`,
		Args: cli.ExactArgs("one project"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object"}, func(c *cli.Call) error {
		created, err := c.CreateToken(c.Ctx, c.Args[0], t)
		if err != nil {
			return notListed(err)
		}
		return printToken(c, created, render.Table(
			render.Row{"id", created.ID}, render.Row{"label", created.Label},
			render.Row{"rights", strings.Join(created.Rights, ", ")}, render.Row{"token", created.Token}))
	})
	cmd.Flags().StringVar(&t.Label, "label", "", "`text` that identifies the token, at most 64 bytes")
	cmd.Flags().StringSliceVar(&t.Rights, "rights", nil, "what it may do: read, append, or read,append (default both)")
	cli.MustComplete(cmd.RegisterFlagCompletionFunc("rights", cobra.FixedCompletions(
		[]string{wire.RightRead, wire.RightAppend, wire.RightRead + "," + wire.RightAppend},
		cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func newTokenListCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "list NAME|ID",
		Short: "List the tokens of a project, without their secrets",
		Args:  cli.ExactArgs("one project"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object a line for each token"}, func(c *cli.Call) error {
		tokens, err := c.Tokens(c.Ctx, c.Args[0])
		if err != nil {
			return notListed(err)
		}
		titles := render.Row{"ID", "LABEL", "RIGHTS", "CREATED"}
		rows := render.Rows(titles, tokens, func(t *wire.ProjectToken) render.Row {
			return render.Row{t.ID, t.Label, strings.Join(t.Rights, ", "), render.LocalTime(t.Created)}
		})
		return cli.PrintList(c, tokens, render.Fit(render.Width(c.Out), []int{1}, rows...))
	})
}

func newTokenRevokeCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "revoke NAME|ID TOKEN-ID",
		Short: "Revoke a token of a project; its other tokens stay valid",
		Args:  cli.ExactArgs("one project and one token"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		id, err := strconv.ParseUint(c.Args[1], 10, 32)
		if err != nil {
			return fmt.Errorf("a token is named by its id, a number that 'chainstore project token list %s' prints",
				c.Args[0])
		}
		if err := c.RevokeToken(c.Ctx, c.Args[0], uint32(id)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "token %d of project %s is revoked\n", id, render.Plain(c.Args[0]))
		return err
	})
}
