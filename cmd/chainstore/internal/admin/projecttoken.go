package admin

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// newProjectTokenCommand is the parent of the commands on the tokens of a project.
func newProjectTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create, list and revoke the tokens of a project",
		Long: `Create, list and revoke the tokens of a project. The command needs the admin token. After a recovery
of the masters from storage nodes, projects have no tokens: create new ones.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreateCommand(), newTokenListCommand(), newTokenRevokeCommand())
	return cmd
}

func newTokenCreateCommand() *cobra.Command {
	var t wire.NewToken
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "create NAME|ID",
		Short: "Create a token for a project and print it, which is shown only once",
		Example: `  chainstore project token create sensors --label gateway-7 --rights append
  chainstore project token create sensors --label dashboard --rights read --json | jq -r .token > dashboard.token`,
		Args: cli.ExactArgs("one project"),
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		created, err := c.CreateToken(cmd.Context(), args[0], t)
		if err != nil {
			return notListed(err)
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, created)
		}
		err = render.Rows(out, [][]string{
			{"id", tokenID(created.ProjectToken)}, {"label", render.Plain(created.Label)},
			{"rights", strings.Join(created.Rights, ", ")}, {"token", created.Token},
		})
		if err != nil {
			return err
		}
		return shownOnce(cmd)
	})
	cmd.Flags().StringVar(&t.Label, "label", "", "`text` that identifies the token, at most 64 bytes")
	cmd.Flags().StringSliceVar(&t.Rights, "rights", nil, "what it may do: read, append, or read,append (default both)")
	cli.MustComplete(cmd.RegisterFlagCompletionFunc("rights", cobra.FixedCompletions(
		[]string{wire.RightRead, wire.RightAppend, wire.RightRead + "," + wire.RightAppend},
		cobra.ShellCompDirectiveNoFileComp)))
	cli.AddJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

func newTokenListCommand() *cobra.Command {
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "list NAME|ID",
		Short: "List the tokens of a project, without their secrets",
		Args:  cli.ExactArgs("one project"),
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		tokens, err := c.Tokens(cmd.Context(), args[0])
		if err != nil {
			return notListed(err)
		}
		list := render.NewSheet(cmd.OutOrStdout(), asJSON, "ID", "LABEL", "RIGHTS", "CREATED")
		for _, t := range tokens {
			if err := list.Add(t, tokenID(t), render.Plain(t.Label), strings.Join(t.Rights, ", "),
				render.LocalTime(t.Created)); err != nil {
				return err
			}
		}
		return list.Print(1)
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object a line for each token")
	return cmd
}

func newTokenRevokeCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "revoke NAME|ID TOKEN-ID",
		Short: "Revoke a token of a project; its other tokens stay valid",
		Args:  cli.ExactArgs("one project and one token"),
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		id, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return fmt.Errorf("a token is named by its id, a number that 'chainstore project token list %s' prints",
				args[0])
		}
		if err := c.RevokeToken(cmd.Context(), args[0], uint32(id)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "token %d of project %s is revoked\n", id, render.Plain(args[0]))
		return err
	})
}

func tokenID(t wire.ProjectToken) string { return strconv.FormatUint(uint64(t.ID), 10) }
