// A page that is made once and kept until the tag "posts" is revalidated. It shows which process made it.
import { unstable_cache } from 'next/cache';

const made = unstable_cache(async () => `${process.pid}.${Date.now()}`, ['made'], { tags: ['posts'], revalidate: 3600 });

export default async function Page() {
  return <p>made by {await made()}</p>;
}
