"""Links to plugin processes that speak go-plugin's protocol."""
