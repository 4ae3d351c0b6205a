import { ClerkProvider, Show, UserButton } from "@clerk/nextjs";
import type { ReactNode } from "react";

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <head>
        <link rel="icon" href="data:," />
      </head>
      <body>
        <ClerkProvider>
          <Show when="signed-in">
            <UserButton />
          </Show>
          <main>{children}</main>
        </ClerkProvider>
      </body>
    </html>
  );
}
