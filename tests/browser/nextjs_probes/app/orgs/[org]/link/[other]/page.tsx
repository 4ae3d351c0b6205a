import Link from "next/link";

/** A link inside the app to another organization. */
export default async function Page({ params }: PageProps<"/orgs/[org]/link/[other]">) {
  return <Link href={`/orgs/${(await params).other}`}>Elsewhere</Link>;
}
